"""Reading callgrind's parts, and what is held; counting itself is `make guard`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.instructions import COUNT, per_operation, report

VERSIONS = {"python": "3.11.2", "orjson": "3.10.0"}


def write_parts(folder: Path, *totals: int) -> None:
    for number, total in enumerate(totals, 1):
        (folder / f"out.{number}").write_text(f"version: 1\nsummary: 7\n\nfn=(0) x\n0 5\ntotals: {total}\n")
    (folder / "out").write_text("totals: 99\n")  # what came after the last mark


def test_an_operation_costs_the_difference_of_its_parts(tmp_path: Path) -> None:
    write_parts(tmp_path, 9_000_000, 40 + COUNT * 70, 40 + 2 * COUNT * 70, 1, 2, 2 + COUNT * 12_345)
    assert per_operation(["a", "b"], tmp_path) == {"a": 70, "b": 12_345}


def test_parts_that_do_not_fit_the_operations_are_an_error(tmp_path: Path) -> None:
    write_parts(tmp_path, 1, 2)
    with pytest.raises(RuntimeError, match="2 parts for 1 operations"):
        per_operation(["a"], tmp_path)


@pytest.mark.parametrize(
    ("count", "status", "told"),
    [
        (1000, 0, "+0.0%"),
        (1049, 0, "+4.9%"),
        (1051, 1, "+5.1% of    1,000  off"),
        (940, 1, "-6.0% of    1,000  off"),
    ],
)
def test_a_count_is_held_near_its_record(
    capsys: pytest.CaptureFixture[str], count: int, status: int, told: str
) -> None:
    record = {"made_with": VERSIONS, "instructions": {"a": 1000}}
    assert report({"a": count}, "kind", VERSIONS, record) == status
    assert told in capsys.readouterr().out


def test_without_a_record_nothing_is_held(capsys: pytest.CaptureFixture[str]) -> None:
    assert report({"a": 1}, "x86_64 python3.99 gcc1", VERSIONS, None) == 0
    assert "no record for this kind of build" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("counts", "told"),
    [({"a": 1000, "b": 5}, "not recorded"), ({}, "no such operation any more")],
)
def test_record_and_operations_go_together(
    capsys: pytest.CaptureFixture[str], counts: dict[str, int], told: str
) -> None:
    record = {"made_with": VERSIONS, "instructions": {"a": 1000}}
    assert report(counts, "kind", VERSIONS, record) == 1
    assert told in capsys.readouterr().out


def test_other_versions_than_the_records_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    record = {"made_with": {**VERSIONS, "orjson": "3.9.0"}, "instructions": {"a": 1000}}
    assert report({"a": 2000}, "kind", VERSIONS, record) == 1
    assert "3.9.0" in capsys.readouterr().out
