"""A report as one reads it in a terminal: headings and cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from engine.bench.report import FIGURES, Change, Report, Row, against
from engine.bench.stats import Spread

_COUNTS = ("processes", "connections")

#: A figure that only one kind of workload has.
_KINDS = ("p50_ms", "start_ms", "makespan_s", "pss_mib", "worker_ratio", "out_mb_s", "rss_growth")


def tables(rows: Sequence[Row]) -> list[tuple[list[str], list[list[str]]]]:
    """A table for each kind of workload, so that none is full of dashes: by the figures they have."""
    kinds: dict[str, list[Row]] = {}
    for row in rows:
        kind = next((key for key in _KINDS if key in row.figures), "rate")
        kinds.setdefault(kind, []).append(row)
    return [table(found) for found in kinds.values()]


def table(rows: Iterable[Row]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells: the median, and below the spread when there was more than one run."""
    rows = list(rows)
    shown = [(key, head) for key, head, _ in FIGURES if any(key in row.figures for row in rows)]
    headings = ["workload", "side", "tasks", *(head for _, head in shown)]
    cells = [
        [row.workload, row.side, f"{row.tasks:,}", *(_cell(key, row.figures.get(key)) for key, _ in shown)]
        for row in rows
    ]
    return headings, cells


def _cell(key: str, value: Spread | None) -> str:
    if value is None:
        return "–"
    if key in _COUNTS:
        return f"{value.median:,.0f}"
    if value.low == value.high:
        return figure(value.median)
    return f"{figure(value.median)} ({figure(value.low)}–{figure(value.high)})"


def figure(value: float) -> str:
    """A figure as one reads it: thousands grouped, small ones with up to three digits."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def rival_table(report: Report, rivals: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of the engine's figures beside each rival's, and how many times better the engine's
    are. A figure the engine alone has is left out."""
    changes = {
        (change.workload, change.figure, rival): change
        for rival in rivals
        for change in against(report, "engine", rival)
    }
    cells = []
    for row in report.rows:
        for key, head, _ in FIGURES if row.side == "engine" else ():
            found = [changes.get((row.workload, key, rival)) for rival in rivals]
            if any(found):
                cells.append([row.workload, head, figure(row.figures[key].median), *map(_rival_cell, found)])
    return ["workload", "figure", "engine", *rivals], cells


def _rival_cell(change: Change | None) -> str:
    return "–" if change is None else f"{figure(change.before)} ({change.ratio:.2f}×)"


def change_table(changes: Sequence[Change], before: str, now: str) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of a comparison."""
    heads = {key: head for key, head, _ in FIGURES}
    cells = [
        [
            change.workload,
            change.side,
            heads[change.figure],
            figure(change.before),
            figure(change.now),
            f"{change.ratio:.2f}×",
        ]
        for change in changes
    ]
    return ["workload", "side", "figure", before, now, "better by"], cells
