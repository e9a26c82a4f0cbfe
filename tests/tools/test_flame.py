"""The picture of a worker's CPU: names as people know them, and ways put together."""

from __future__ import annotations

import pytest

from tools.flame import drawn, fold, known_as, parts

WORK = "__pyx_pw_6engine_5_work_4Turn_5work"
ONE = "__pyx_f_6engine_5_work_4Turn_one"


@pytest.mark.parametrize(
    ("frame", "name"),
    [
        (WORK, "work: Turn.work"),
        (ONE, "work: Turn.one"),
        ("__pyx_f_6engine_6_codec_12FrameDecoder_read_frame", "codec: FrameDecoder.read_frame"),
        ("__pyx_f_6engine_6_codec__decode_json", "codec: _decode_json"),
        ("__pyx_pw_6engine_6_codec_13decode_task", "codec: decode_task"),
        ("__x64_sys_recvfrom", "kernel: recvfrom"),
        ("_PyEval_EvalFrame (inlined)", "interpreter"),
        ("malloc", ""),
    ],
)
def test_names(frame: str, name: str) -> None:
    assert known_as(frame) == name


def test_ways_are_counted_from_the_loop_to_the_system_call() -> None:
    stacks = [
        [
            "_start",
            "_PyEval_Vector",
            WORK,
            "_PyEval_Vector",
            "_PyEval_EvalFrameDefault",
            "__x64_sys_poll",
            "x",
        ],
        ["_start", WORK, ONE, "malloc"],
        ["_start", WORK, ONE],
        ["_start", "_PyEval_Vector"],
    ]
    found = fold(iter(stacks))
    assert found == {
        ("work: Turn.work", "interpreter", "kernel: poll"): 1,
        ("work: Turn.work", "work: Turn.one"): 2,
    }
    assert parts(found) == [("work: Turn.one", 2 / 3), ("kernel: poll", 1 / 3)]
    picture = drawn(found)
    assert picture.startswith("<svg")
    assert "work: Turn.one 67%" in picture
    assert "kernel: poll 33%" in picture
