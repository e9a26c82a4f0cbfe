"""The figures of a bench: rows, the saved file, and the comparison with an earlier one or a rival.

A row is one side's figures in one workload. The saved file is JSON, so that it can be kept beside the code.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.bench.machine import describe_machine
from engine.bench.stats import Spread, digits
from engine.errors import ConfigurationError

FORMAT = 1

#: The figures in the order of the table: key, heading, whether more is better (None: neither).
FIGURES: tuple[tuple[str, str, bool | None], ...] = (
    ("rate", "per s", True),
    ("publisher_us", "publisher µs", False),
    ("worker_us", "worker µs", False),
    ("broker_us", "broker µs", False),
    ("worker_ratio", "worker × smallest", None),
    ("broker_ratio", "broker × smallest", None),
    ("write_ms", "longest write, ms", False),
    ("out_mb_s", "published MB/s", True),
    ("in_mb_s", "consumed MB/s", True),
    ("json_out_us", "JSON out µs", None),
    ("json_in_us", "JSON in µs", None),
    ("rss10_mib", "RSS MiB at 10 %", None),
    ("rss50_mib", "at 50 %", None),
    ("rss100_mib", "at 100 %", False),
    ("rss_growth", "× that at 10 %", None),
    ("p50_ms", "p50 ms", False),
    ("p95_ms", "p95 ms", False),
    ("p99_ms", "p99 ms", False),
    ("max_ms", "max ms", False),
    ("start_ms", "to first task, ms", False),
    ("makespan_s", "makespan s", False),
    ("ideal_s", "ideal s", None),
    ("over_ideal", "× ideal", None),
    ("short_s", "last short s", False),
    ("short_over_ideal", "× its ideal", None),
    ("slept", "slept × asked", None),
    ("joined_ms", "last process joins, ms", None),
    ("pss_mib", "PSS MiB", False),
    ("processes", "processes", None),
    ("connections", "connections", None),
    ("idle_cpu", "idle CPU %", False),
)
_MORE_IS_BETTER = {key: better for key, _, better in FIGURES}
#: What --fail-over judges: the speed the user sees. CPU figures are shown, not judged.
JUDGED = ("rate", "p50_ms")


@dataclass(frozen=True, slots=True)
class Row:
    """One side's figures in one workload; absent figures were not measured. CPU in µs a task.

    Attributes:
        each: the figures of every single run.
        quantiles_ms: the latencies of all runs, at the percents of `stats.QUANTILES`.
    """

    workload: str
    side: str
    tasks: int
    runs: int
    figures: dict[str, Spread]
    each: list[dict[str, float]] = field(default_factory=list)
    quantiles_ms: list[float] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return {
            "workload": self.workload,
            "side": self.side,
            "tasks": self.tasks,
            "runs": self.runs,
            **{key: value.to_dict() for key, value in self.figures.items()},
            "each": [{key: digits(value) for key, value in run.items()} for run in self.each],
            **({"quantiles_ms": self.quantiles_ms} if self.quantiles_ms else {}),
        }

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> Row:
        figures = {key: Spread.from_dict(saved[key]) for key, _, _ in FIGURES if key in saved}
        more = {name: saved[name] for name in ("each", "quantiles_ms") if name in saved}
        return cls(saved["workload"], saved["side"], saved["tasks"], saved["runs"], figures, **more)


@dataclass(frozen=True, slots=True)
class Report:
    """Everything one `engine bench` found."""

    rows: list[Row]
    parameters: dict[str, Any]
    versions: dict[str, str] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=describe_machine)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "machine": self.machine,
            "versions": self.versions,
            "parameters": self.parameters,
            "notes": self.notes,
            "rows": [row.to_dict() for row in self.rows],
        }

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def row(self, workload: str, side: str) -> Row | None:
        return next((row for row in self.rows if (row.workload, row.side) == (workload, side)), None)


def load(path: Path) -> Report:
    """A report that was saved. Raises ConfigurationError when it cannot be read as one."""
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        if saved["format"] != FORMAT:
            raise ConfigurationError(f"{path} has format {saved['format']}, this version reads {FORMAT}")
        rows = [Row.from_dict(row) for row in saved["rows"]]
        return Report(rows, saved["parameters"], saved.get("versions", {}), saved["machine"], saved["notes"])
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(
            f"{path} is not a file that `engine bench --save` wrote ({error!r})"
        ) from None


@dataclass(frozen=True, slots=True)
class Change:
    """A figure now and before. ``ratio`` above 1 means better now, whichever way better lies."""

    workload: str
    side: str
    figure: str
    before: float
    now: float

    @property
    def ratio(self) -> float:
        """How many times better it is now; 1.0 when either is zero."""
        if not self.before or not self.now:
            return 1.0
        return self.now / self.before if _MORE_IS_BETTER[self.figure] else self.before / self.now

    def worse_by(self, percent: float) -> bool:
        """Whether it lost more than so many percent of its speed."""
        return self.figure in JUDGED and self.ratio < 1 - percent / 100


def compare(now: Report, before: Report) -> list[Change]:
    """Every figure that both reports hold."""
    changes = []
    for row in now.rows:
        earlier = before.row(row.workload, row.side)
        if earlier is not None:
            changes += _changes(row, earlier)
    return changes


def against(report: Report, side: str, rival: str) -> list[Change]:
    """Every figure of ``side`` that ``rival`` has too in the same report; the rival's is the one before."""
    changes = []
    for row in report.rows:
        other = report.row(row.workload, rival)
        if row.side == side and other is not None:
            changes += _changes(row, other)
    return changes


def _changes(row: Row, earlier: Row) -> list[Change]:
    return [
        Change(row.workload, row.side, key, earlier.figures[key].median, row.figures[key].median)
        for key, _, better in FIGURES
        if better is not None and key in row.figures and key in earlier.figures
    ]
