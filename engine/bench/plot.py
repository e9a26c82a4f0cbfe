"""A report as a picture: a bar for each side in each workload, and the latencies' distribution below.

The bar is the median, the whisker goes from the lowest run to the highest. The scale is linear and starts at
zero. The raw side, which may be many times faster than any engine, does not set the scale: its bar is cut off
where it would leave the picture, and its figure says how far it goes.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.bench.latency_plot import latency_panel
from engine.bench.plot_style import COLOURS, FAINT, GRID, INK, QUIET
from engine.bench.points import FAMILIES
from engine.bench.report import Report, Row
from engine.bench.svg import Drawing
from engine.bench.tables import figure

WIDTH = 860.0
_MARGIN = 28.0
_GAP = 36.0
_LABELS = 112.0  #: width of the sides' names
_FIGURES = 74.0  #: width of the figures
_BAR, _STEP = 16.0, 24.0
_CUT = 1.15  #: the raw side's bar is cut off at so many times the others' greatest

#: What a workload's bars show: the first of these it has measured, with the words for it.
_SHOWN = (
    ("short_over_ideal", "last short task, × ideal; 1 is best"),
    ("over_ideal", "makespan, × ideal; 1 is best"),
    ("start_ms", "ms to the first task (less is better)"),
    ("pss_mib", "MiB of memory, all processes (less is better)"),
    ("rss100_mib", "MiB of the largest process after all tasks"),
    ("in_mb_s", "MB consumed per second"),
    ("rate", "tasks per second"),
)
_TITLES = {
    "codec": "Writing and reading a message",
    "publish": "Publishing one by one",
    "publish-many": "Publishing in batches",
    "consume": "Draining a full queue",
    "roundtrip": "One task at a time",
    "start": "Starting",
    "idle": "Idle worker",
    "sharing-a": "Many short tasks",
    "sharing-b": "Equally long tasks",
    "sharing-c": "Few long among short ones",
    "sharing-d": "A long one before short ones",
    "sharing-e": "Long ones between bursts",
    "memory": "Memory over many tasks",
    **{name: f"Draining {point['queued']:,} tasks" for name, point in FAMILIES["growth"].items()},
    **{name: f"{point['concurrency']} processes" for name, point in FAMILIES["growth-children"].items()},
    **{name: f"{point['queues']} queues" for name, point in FAMILIES["growth-queues"].items()},
    **{name: f"{point['names']:,} registered tasks" for name, point in FAMILIES["growth-tasks"].items()},
    **{name: f"Bodies of {point['payload']:,} bytes" for name, point in FAMILIES["bodies"].items()},
}


def plot(report: Report) -> str:
    """The report as an SVG document."""
    drawing = Drawing(WIDTH)
    drawing.text(_MARGIN, 36, _headline(report), size=17, fill=INK, weight="600")
    bottom = _bars(drawing, report, 62.0)
    for row_set in _by_workload(report.rows):
        if any(row.quantiles_ms for row in row_set):
            bottom = latency_panel(drawing, row_set, _MARGIN, bottom + 8, WIDTH - 2 * _MARGIN)
    for line in _foot(report):
        drawing.text(_MARGIN, bottom + 12, line, size=11, fill=QUIET)
        bottom += 16
    return drawing.document(bottom + 14, _headline(report))


def _headline(report: Report) -> str:
    asked = report.parameters
    broker = next((name for name in ("RabbitMQ", "Redis", "SQLite") if name in report.versions), "")
    where = f"{broker} {report.versions[broker]}" if broker else str(asked.get("broker", ""))
    count = asked.get("concurrency", 1)
    return f"{where}, {count} {'process' if count == 1 else 'processes'}"


def _foot(report: Report) -> list[str]:
    machine, runs = report.machine, report.parameters.get("runs", 1)
    sides = dict.fromkeys(row.side for row in report.rows)
    versions = ", ".join(f"{name} {report.versions[name]}" for name in sides if name in report.versions)
    spread = "; whiskers: lowest and highest" if runs != 1 else ""
    return [
        f"{machine['cpu']}, {machine['cpus']} CPUs, {machine['python']}; median of {runs} "
        f"{'run' if runs == 1 else 'runs'} in turn{spread}",
        versions + ("; raw: the broker by itself, no engine" if "raw" in sides else ""),
    ]


def _by_workload(rows: Sequence[Row]) -> list[list[Row]]:
    names = dict.fromkeys(row.workload for row in rows)
    return [[row for row in rows if row.workload == name] for name in names]


def _bars(drawing: Drawing, report: Report, top: float) -> float:
    """The workloads in two columns, or one if there is but one; where they end."""
    sets = _by_workload(report.rows)
    columns = 1 if len(sets) == 1 else 2
    width = (WIDTH - 2 * _MARGIN - _GAP * (columns - 1)) / columns
    for start in range(0, len(sets), columns):
        ends = [
            _panel(drawing, rows, _MARGIN + place * (width + _GAP), top, width)
            for place, rows in enumerate(sets[start : start + columns])
        ]
        top = max(ends) + 20
    return top


def _panel(drawing: Drawing, rows: Sequence[Row], left: float, top: float, width: float) -> float:
    workload = rows[0].workload
    key, words = next((key, words) for key, words in _SHOWN if key in rows[0].figures)
    drawing.text(left, top + 12, _TITLES.get(workload, workload), size=13, fill=INK, weight="600")
    drawing.text(left + width, top + 12, words, size=11, fill=QUIET, anchor="end")
    drawing.line(left, top + 20, left + width, top + 20, GRID)
    room, most = width - _LABELS - _FIGURES, _scale(rows, key)
    for place, row in enumerate(row for row in rows if key in row.figures):
        _bar(drawing, row, key, (left, top + 28 + place * _STEP), room, most)
    return top + 28 + len(rows) * _STEP


def _scale(rows: Sequence[Row], key: str) -> float:
    """The figure at the right end."""
    tops = {row.side: row.figures[key].high for row in rows if key in row.figures}
    others = max((top for side, top in tops.items() if side != "raw"), default=0.0)
    return min(max(tops.values()), others * _CUT) if others else max(tops.values())


def _bar(drawing: Drawing, row: Row, key: str, corner: tuple[float, float], room: float, most: float) -> None:
    left, top = corner
    spread, start = row.figures[key], left + _LABELS
    cut = spread.median > most
    end = start + room * min(spread.median / most if most else 0.0, 1.0)
    middle = top + _BAR / 2
    ink, weight = (INK, "600") if row.side == "engine" else (FAINT, "normal")
    drawing.text(left, middle + 4, row.side, fill=ink, weight=weight)
    drawing.rect(start, top, end - start, _BAR, COLOURS.get(row.side, FAINT), radius=2)
    if cut:  # two slanted lines, the sign for an axis that is broken
        for shift in (14.0, 20.0):
            drawing.path([(end - shift - 4, top + _BAR + 2), (end - shift + 4, top - 2)], "#ffffff", 2.5)
    elif spread.high > spread.low:
        low, high = (start + room * min(value / most, 1.0) for value in (spread.low, spread.high))
        drawing.line(low, middle, high, middle, INK)
        for x in (low, high):
            drawing.line(x, middle - 4, x, middle + 4, INK)
        end = max(end, high)
    drawing.text(end + 6, middle + 4, figure(spread.median), fill=ink, weight=weight)
