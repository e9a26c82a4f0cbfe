"""The codec's whole walk, from the values of a task to its frames and back, beside what Celery does for it
(`engine.bench.celery_codec` tells what).

Lean is what either sends by default, so that celery makes ``argsrepr`` and the like itself; with full headers
these are given to both.
"""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import operations
from benchmarks.celery_app import add, app
from benchmarks.operations import ARGS, ID, QUEUE, REPLY_TO
from benchmarks.ratio import faster
from engine.bench.celery_codec import CeleryCodec, frames_of


@pytest.mark.parametrize(("lean", "floor"), [(True, 27), (False, 10)], ids=["lean", "full"])
def test_task_to_frames(benchmark: Any, lean: bool, floor: float) -> None:
    codec = CeleryCodec(app, add, QUEUE)
    given = {} if lean else {"argsrepr": "(2, 3)", "kwargsrepr": "{}", "origin": "gen1@host"}

    def theirs() -> bytes:
        return codec.write(ID, ARGS, reply_to=REPLY_TO, **given)

    assert frames_of(theirs()) == frames_of(operations.task_frames(lean)) == 3
    faster(
        benchmark,
        f"task to frames, {'lean' if lean else 'full'} headers",
        lambda: operations.task_frames(lean),
        "celery",
        theirs,
        floor,
        aims=(1.6, 40) if lean else None,
    )


@pytest.mark.parametrize(("lean", "floor"), [(True, 7.9), (False, 6.8)], ids=["lean", "full"])
def test_frames_to_task(benchmark: Any, lean: bool, floor: float) -> None:
    codec = CeleryCodec(app, add, QUEUE)
    frames = operations.delivered(operations.task_frames(lean))
    read = operations.task_reader(lean)
    ours, theirs = read(), codec.read(frames)
    assert (theirs.id, theirs.args) == (ours.id, ours.args) == (ID, list(ARGS))
    faster(
        benchmark,
        f"frames to task, {'lean' if lean else 'full'} headers",
        read,
        "celery",
        lambda: codec.read(frames),
        floor,
        aims=(2.5, 20) if lean else None,
    )
