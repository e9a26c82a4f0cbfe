"""Saving, reading and comparing figures."""

import json
from pathlib import Path

import pytest

from engine.bench.report import Change, Row, against, compare, load
from engine.bench.stats import Spread
from engine.errors import ConfigurationError
from tests.bench.reports import report, row


def test_saved_report_reads_back(tmp_path: Path) -> None:
    made = report(row(), row("celery", 100.0))
    latency = {"p50_ms": Spread(1.0, 1.0, 1.0)}
    made.rows.append(Row("roundtrip", "engine", 10, 2, latency, [{"p50_ms": 1.0}] * 2, [0.5, 1.0, 2.0]))
    made.versions["engine"] = "1.0"
    made.save(tmp_path / "bench.json")
    assert load(tmp_path / "bench.json") == made


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 99}'])
def test_a_file_that_is_no_report_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bench.json"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=r"bench\.json"):
        load(path)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot read"):
        load(tmp_path / "none.json")


def test_better_is_above_one_whichever_way_better_lies() -> None:
    changes = {
        change.figure: change for change in compare(report(row(rate=2000, worker_us=25)), report(row()))
    }
    assert changes["rate"].ratio == pytest.approx(2.0)
    assert changes["worker_us"].ratio == pytest.approx(2.0)


def test_only_what_both_have_is_compared() -> None:
    assert compare(report(row(workload="publish")), report(row())) == []


def test_rivals_are_compared_within_one_report() -> None:
    changes = against(report(row(rate=5000), row("celery", 1000)), "engine", "celery")
    assert [(change.figure, round(change.ratio, 2)) for change in changes] == [
        ("rate", 5.0),
        ("worker_us", 1.0),
    ]


def test_worse_by_judges_speed_and_not_cpu() -> None:
    slower = Change("consume", "engine", "rate", before=1000, now=940)
    assert slower.worse_by(5)
    assert not slower.worse_by(7)
    assert not Change("consume", "engine", "worker_us", before=10, now=100).worse_by(5)
    assert Change("roundtrip", "engine", "p50_ms", before=1.0, now=1.2).worse_by(10)


def test_a_figure_of_zero_makes_no_ratio() -> None:
    assert Change("consume", "engine", "worker_us", before=0.0, now=3.0).ratio == 1.0


def test_a_file_without_single_runs_is_still_read(tmp_path: Path) -> None:
    made = report(row())
    kept = made.to_dict()
    del kept["versions"], kept["rows"][0]["each"]
    (tmp_path / "old.json").write_text(json.dumps(kept))
    assert load(tmp_path / "old.json") == made


def test_what_is_neither_better_nor_worse_is_not_compared() -> None:
    figures = {"processes": Spread(4.0, 4.0, 4.0), "pss_mib": Spread(40.0, 40.0, 40.0)}
    made = report(Row("idle", "engine", 5, 1, figures), Row("idle", "celery", 5, 1, figures))
    assert [change.figure for change in against(made, "engine", "celery")] == ["pss_mib"]
