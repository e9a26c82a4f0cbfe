"""Medians, spreads and percentiles of a few samples. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """A median and the range it was taken from."""

    median: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """As it is saved: six significant digits."""
        return {"median": digits(self.median), "low": digits(self.low), "high": digits(self.high)}

    @classmethod
    def from_dict(cls, saved: dict[str, float]) -> Spread:
        return cls(float(saved["median"]), float(saved["low"]), float(saved["high"]))


def digits(value: float) -> float:
    """Six significant digits: what is saved."""
    return float(f"{value:.6g}")


def spread(values: Iterable[float | None]) -> Spread | None:
    """The spread of those that were measured, or None when none was."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Spread(statistics.median(known), min(known), max(known))


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: a value that was measured, never an interpolation.

    Raises ValueError when there are no values or ``percent`` is not within 0 to 100."""
    if not values:
        raise ValueError("no values to take a percentile of")
    if not 0 <= percent <= 100:
        raise ValueError(f"percent must lie within 0 and 100, not {percent}")
    ordered = sorted(values)
    rank = -(-percent * len(ordered) // 100)  # rounded up
    return ordered[max(int(rank), 1) - 1]


def quantiles(values: Sequence[float]) -> list[float]:
    """The 0th to the 100th percentile, and the 99.9th before the last: a distribution that can be drawn.

    Empty when there are no values."""
    if not values:
        return []
    return [digits(percentile(values, percent)) for percent in QUANTILES]


#: The percents of `quantiles`.
QUANTILES = (*range(100), 99.9, 100)
