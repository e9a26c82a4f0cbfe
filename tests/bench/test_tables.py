"""Tables as one reads them."""

import pytest

from engine.bench.report import Change, Row
from engine.bench.stats import Spread
from engine.bench.tables import change_table, figure, rival_table, table, tables
from tests.bench.reports import report, row


def test_table_shows_only_figures_that_were_measured() -> None:
    headings, cells = table([row(), Row("publish", "engine", 5, 1, {"publisher_us": Spread(7.0, 7.0, 7.0)})])
    assert headings == ["workload", "side", "tasks", "per s", "publisher µs", "worker µs"]
    assert cells[0] == ["consume", "engine", "10,000", "1,000 (900–1,100)", "–", "50.0"]
    assert cells[1] == ["publish", "engine", "5", "–", "7.00", "–"]


def test_rivals_stand_beside_the_engine() -> None:
    made = report(row(rate=5000, worker_us=20), row("celery", 1000), row("huey", 2500))
    headings, cells = rival_table(made, ["celery", "huey", "raw"])
    assert headings == ["workload", "figure", "engine", "celery", "huey", "raw"]
    assert cells[0] == ["consume", "per s", "5,000", "1,000 (5.00×)", "2,500 (2.00×)", "–"]
    assert cells[1][2:4] == ["20.0", "50.0 (2.50×)"]


def test_counts_have_no_decimals() -> None:
    figures = {"processes": Spread(4.0, 4.0, 4.0), "pss_mib": Spread(40.0, 40.0, 40.0)}
    assert table([Row("idle", "engine", 5, 1, figures)])[1] == [["idle", "engine", "5", "40.0", "4"]]


def test_each_kind_of_workload_has_a_table_of_its_own() -> None:
    starting = Row("start", "engine", 1, 3, {"start_ms": Spread(400.0, 400.0, 400.0)})
    found = tables([row(workload="publish"), starting, row(workload="consume"), row("celery")])
    assert [[cells[0] for cells in part[1]] for part in found] == [
        ["publish", "consume", "consume"],
        ["start"],
    ]
    assert found[1][0] == ["workload", "side", "tasks", "to first task, ms"]


def test_change_table_names_both_sides() -> None:
    headings, cells = change_table([Change("consume", "engine", "rate", 1000, 1500)], "celery", "engine")
    assert headings[3:5] == ["celery", "engine"]
    assert cells == [["consume", "engine", "per s", "1,000", "1,500", "1.50×"]]


@pytest.mark.parametrize(("value", "shown"), [(12345.6, "12,346"), (42.42, "42.4"), (0.123, "0.12")])
def test_figures_are_rounded_as_one_reads_them(value: float, shown: str) -> None:
    assert figure(value) == shown
