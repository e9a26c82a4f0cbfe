"""Tables and JSON as they are printed."""

import json
from datetime import date
from pathlib import Path

import pytest

from engine.cli.output import age, count, print_json, print_table


def test_json_writes_what_json_does_not_know_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"path": Path("/x"), "day": date(2030, 1, 2), "set": {2, 1}, "tuple": (1,), 3: 2**70})
    shown = json.loads(capsys.readouterr().out)
    assert shown == {"path": "/x", "day": "2030-01-02", "set": [1, 2], "tuple": [1], "3": 2**70}


def test_table_is_aligned_and_never_cut_when_piped(capsys: pytest.CaptureFixture[str]) -> None:
    name = "a-rather-long-queue-name-" * 4
    print_table(["queue", "ready"], [[name, "1"], ["[b]", "1,000"]])
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert any(line.split() == [name, "1"] for line in lines)
    assert any(line.split() == ["[b]", "1,000"] for line in lines)
    assert len({len(line) for line in lines if line.endswith(("1", "1,000"))}) == 1


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "–"),
        (0.25, "250 ms"),
        (12, "12 s"),
        (119, "119 s"),
        (180, "3 min"),
        (7200, "2 h"),
        (345600, "4 d"),
    ],
)
def test_age_is_readable(seconds: float | None, shown: str) -> None:
    assert age(seconds) == shown


def test_count_of_what_is_not_told_is_a_dash() -> None:
    assert count(None) == "–"
    assert count(12345) == "12,345"


def test_a_wide_table_is_never_cut_off(capsys: pytest.CaptureFixture[str]) -> None:
    cells = [f"{'long' * 10}{number}" for number in range(20)]
    print_table(cells, [cells])
    shown = capsys.readouterr().out
    assert [shown.count(cell) for cell in cells[2:]] == [2] * 18
    assert "…" not in shown
