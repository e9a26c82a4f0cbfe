"""Saving, reading and comparing figures."""

import json
from pathlib import Path

import pytest

from engine.bench.report import (
    Change,
    Report,
    Row,
    against,
    change_table,
    compare,
    figure,
    load,
    rival_table,
    table,
)
from engine.bench.stats import Spread
from engine.errors import ConfigurationError


def row(
    side: str = "engine", rate: float = 1000.0, worker_us: float = 50.0, workload: str = "consume"
) -> Row:
    figures = {
        "rate": Spread(rate, rate - 100, rate + 100),
        "worker_us": Spread(worker_us, worker_us, worker_us),
    }
    return Row(workload, side, 10_000, 3, figures)


def report(*rows: Row) -> Report:
    return Report(list(rows), {"broker": "sqlite:///x.db"}, notes=["results off"])


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


def test_table_shows_only_figures_that_were_measured() -> None:
    headings, cells = table([row(), Row("publish", "engine", 5, 1, {"publisher_us": Spread(7.0, 7.0, 7.0)})])
    assert headings == ["workload", "side", "tasks", "per s", "publisher µs", "worker µs"]
    assert cells[0] == ["consume", "engine", "10,000", "1,000 (900–1,100)", "–", "50.0"]
    assert cells[1] == ["publish", "engine", "5", "–", "7.00", "–"]


def test_a_file_without_single_runs_is_still_read(tmp_path: Path) -> None:
    made = report(row())
    kept = made.to_dict()
    del kept["versions"], kept["rows"][0]["each"]
    (tmp_path / "old.json").write_text(json.dumps(kept))
    assert load(tmp_path / "old.json") == made


def test_rivals_stand_beside_the_engine() -> None:
    made = report(row(rate=5000, worker_us=20), row("celery", 1000), row("huey", 2500))
    headings, cells = rival_table(made, ["celery", "huey", "raw"])
    assert headings == ["workload", "figure", "engine", "celery", "huey", "raw"]
    assert cells[0] == ["consume", "per s", "5,000", "1,000 (5.00×)", "2,500 (2.00×)", "–"]
    assert cells[1][2:4] == ["20.0", "50.0 (2.50×)"]


def test_what_is_neither_better_nor_worse_is_shown_and_not_compared() -> None:
    figures = {"processes": Spread(4.0, 4.0, 4.0), "pss_mib": Spread(40.0, 40.0, 40.0)}
    made = report(Row("idle", "engine", 5, 1, figures), Row("idle", "celery", 5, 1, figures))
    assert table(made.rows)[1][0][3:] == ["40.0", "4"]
    assert [change.figure for change in against(made, "engine", "celery")] == ["pss_mib"]


def test_change_table_names_both_sides() -> None:
    headings, cells = change_table([Change("consume", "engine", "rate", 1000, 1500)], "celery", "engine")
    assert headings[3:5] == ["celery", "engine"]
    assert cells == [["consume", "engine", "per s", "1,000", "1,500", "1.50×"]]


@pytest.mark.parametrize(("value", "shown"), [(12345.6, "12,346"), (42.42, "42.4"), (0.123, "0.12")])
def test_figures_are_rounded_as_one_reads_them(value: float, shown: str) -> None:
    assert figure(value) == shown
