"""Reports with figures that were made up."""

from engine.bench.report import Report, Row
from engine.bench.stats import Spread


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
