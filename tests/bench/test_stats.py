"""Medians, spreads, percentiles."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.bench.stats import QUANTILES, Spread, percentile, quantiles, spread

figures = st.lists(st.floats(0.001, 1e9), min_size=1, max_size=200)


def test_spread_is_median_and_range() -> None:
    assert spread([5.0, 1.0, 3.0]) == Spread(3.0, 1.0, 5.0)


def test_spread_of_an_even_number_lies_between_the_middle_two() -> None:
    assert spread([1.0, 2.0, 4.0, 9.0]) == Spread(3.0, 1.0, 9.0)


def test_spread_leaves_out_what_was_not_measured() -> None:
    assert spread([None, 2.0, None]) == Spread(2.0, 2.0, 2.0)
    assert spread([None]) is None
    assert spread([]) is None


@given(figures)
def test_saved_spread_reads_back(values: list[float]) -> None:
    found = spread(values)
    assert found is not None
    saved = Spread.from_dict(found.to_dict())
    assert saved.median == pytest.approx(found.median, rel=1e-5)
    assert saved.low <= saved.median <= saved.high


@pytest.mark.parametrize(
    ("percent", "expected"), [(0, 1), (50, 5), (51, 6), (90, 9), (95, 10), (99, 10), (100, 10)]
)
def test_percentile_is_the_nearest_rank(percent: float, expected: int) -> None:
    assert percentile([10, 9, 8, 7, 6, 5, 4, 3, 2, 1], percent) == expected


@given(figures, st.floats(0, 100))
def test_percentile_was_measured_and_covers_its_share(values: list[float], percent: float) -> None:
    found = percentile(values, percent)
    assert found in values
    assert sum(value <= found for value in values) >= len(values) * percent / 100 - 1e-6


def test_percentile_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)
    with pytest.raises(ValueError, match="within 0 and 100"):
        percentile([1.0], 101)


def test_quantiles_rise_from_the_least_to_the_greatest() -> None:
    values = [float(value) for value in range(1, 2_001)]
    found = quantiles(values)
    assert len(found) == len(QUANTILES)
    assert (found[0], found[50], found[-2], found[-1]) == (1.0, 1_000.0, 1_998.0, 2_000.0)
    assert found == sorted(found)
    assert quantiles([]) == []
