"""The cumulative distribution of latencies: how many percent of the tasks had begun after so many ms.

The time axis is logarithmic, because the tail is what one looks for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from engine.bench.plot_style import COLOURS, FAINT, GRID, INK, QUIET
from engine.bench.report import Row
from engine.bench.stats import QUANTILES
from engine.bench.svg import Drawing
from engine.bench.tables import figure

_HEIGHT = 190.0
_AXIS = 40.0  #: width of the percents
_MANY_DECADES = 3.5  #: wider than this, the axis has a label for each decade only
_KEY = 190.0  #: width of the key at the right


def latency_panel(drawing: Drawing, rows: Sequence[Row], left: float, top: float, width: float) -> float:
    """Draw it for all rows that have latencies; where it ends."""
    rows = [row for row in rows if row.quantiles_ms]
    drawing.text(left, top + 12, "Latency on an idle system", size=13, fill=INK, weight="600")
    words = "% of tasks that began within so many ms of being sent"
    drawing.text(left + width, top + 12, words, size=11, fill=QUIET, anchor="end")
    drawing.line(left, top + 20, left + width, top + 20, GRID)
    plot_left, plot_top, plot_width = left + _AXIS, top + 34, width - _AXIS - _KEY
    low, high = _bounds(rows)

    def x_of(ms: float) -> float:
        share = (math.log10(max(ms, low)) - math.log10(low)) / (math.log10(high) - math.log10(low))
        return plot_left + plot_width * share

    def y_of(percent: float) -> float:
        return plot_top + _HEIGHT * (1 - percent / 100)

    for percent in (0, 25, 50, 75, 100):
        drawing.line(plot_left, y_of(percent), plot_left + plot_width, y_of(percent), GRID)
        drawing.text(plot_left - 8, y_of(percent) + 4, str(percent), size=11, fill=QUIET, anchor="end")
    for ms in ticks(low, high):
        drawing.line(x_of(ms), plot_top, x_of(ms), plot_top + _HEIGHT, GRID)
        drawing.text(x_of(ms), plot_top + _HEIGHT + 16, f"{ms:g}", size=11, fill=QUIET, anchor="middle")
    for row in reversed(rows):  # the engine's line lies on top
        points = zip(row.quantiles_ms, QUANTILES, strict=False)
        drawing.path([(x_of(ms), y_of(percent)) for ms, percent in points], COLOURS.get(row.side, FAINT))
    for place, row in enumerate(rows):
        _key(drawing, row, plot_left + plot_width + 24, plot_top + 10 + place * 34)
    return plot_top + _HEIGHT + 34


def _key(drawing: Drawing, row: Row, left: float, top: float) -> None:
    drawing.rect(left, top - 6, 18, 4, COLOURS.get(row.side, FAINT), radius=2)
    drawing.text(left + 26, top, row.side, fill=INK, weight="600" if row.side == "engine" else "normal")
    parts = [f"p{percent} {figure(row.figures[f'p{percent}_ms'].median)}" for percent in (50, 99)]
    drawing.text(left + 26, top + 14, ", ".join(parts) + " ms", size=11, fill=FAINT)


def _bounds(rows: Sequence[Row]) -> tuple[float, float]:
    """From just below the fastest to just above the slowest; never empty."""
    values = [ms for row in rows for ms in row.quantiles_ms]
    low, high = max(min(values), 0.001) * 0.9, max(values) * 1.1
    return low, max(high, low * 2)


def ticks(low: float, high: float) -> list[float]:
    """Round values within the bounds: 1, 2, 5 of each decade, or the decades alone when there are many."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if math.log10(high / low) < _MANY_DECADES else (1,)
    values = [float(f"{step}e{decade}") for decade in decades for step in steps]
    return [value for value in values if low <= value <= high]
