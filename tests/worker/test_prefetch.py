"""The prefetch finds its value by itself, and changes seldom."""

from __future__ import annotations

import pytest

from engine.work import Pace
from engine.worker.prefetch import LONG_S, MOST, SHORT_S, Prefetch


def settle_at(prefetch: Prefetch, task_s: float, tasks: int, now: float) -> tuple[int, float]:
    """Run so many tasks of that length, in batches as a child would; how often the value changed."""
    changes = 0
    while tasks > 0:
        batch = min(tasks, max(1, prefetch.value // 3))
        now += batch * task_s
        changes += prefetch.observe(batch, batch * task_s, task_s, now)
        tasks -= batch
    return changes, now


@pytest.mark.parametrize(
    ("task_s", "low", "high"), [(0.00001, MOST, MOST), (0.001, 15, 60), (0.005, 3, 12), (0.2, 1, 1)]
)
def test_aims_at_a_few_tens_of_milliseconds_of_work(task_s: float, low: int, high: int) -> None:
    prefetch = Prefetch()
    changes, _ = settle_at(prefetch, task_s, max(50, int(1 / task_s)), 10.0)
    assert low <= prefetch.value <= high
    assert changes <= 4


def test_one_long_task_brings_it_down_at_once() -> None:
    prefetch = Prefetch()
    _, now = settle_at(prefetch, 0.00001, 100_000, 10.0)
    assert prefetch.value == MOST
    assert prefetch.observe(1, 2.0, 2.0, now + 2.0)
    assert prefetch.value == 1


@pytest.mark.parametrize(
    ("size", "most"), [(1_000, MOST), (100_000, 83), (1 << 20, 8), (10_000_000, 4), (1 << 30, 4)]
)
def test_large_bodies_are_few(size: int, most: int) -> None:
    prefetch = Prefetch(body_bytes=lambda: size)
    settle_at(prefetch, 0.00001, 100_000, 10.0)
    assert prefetch.value == most


def test_bodies_that_become_large_bring_it_down() -> None:
    size = 100
    prefetch = Prefetch(body_bytes=lambda: size)
    _, now = settle_at(prefetch, 0.00001, 100_000, 10.0)
    assert prefetch.value == MOST
    for size, most in ((1 << 20, 8), (8 << 20, 8), (16 << 20, 2)):  # noqa: B007 - it is the lambda's
        _, now = settle_at(prefetch, 0.00001, 1_000, now)
        assert prefetch.value == most


def test_small_changes_of_pace_change_nothing() -> None:
    prefetch = Prefetch()
    _, now = settle_at(prefetch, 0.001, 1000, 10.0)
    settled = prefetch.value
    for task_s in (0.0012, 0.0009, 0.0011, 0.0008):
        changes, now = settle_at(prefetch, task_s, 200, now)
        assert changes == 0
    assert prefetch.value == settled


def test_fixed_is_fixed() -> None:
    prefetch = Prefetch(7)
    changes, _ = settle_at(prefetch, 0.5, 20, 10.0)
    assert (changes, prefetch.value) == (0, 7)


def test_after_a_crash_it_holds_one_for_a_while() -> None:
    prefetch = Prefetch()
    prefetch.be_cautious(100)
    _, now = settle_at(prefetch, 0.00001, 99, 10.0)
    assert prefetch.value == 1
    settle_at(prefetch, 0.00001, 10_000, now + 1)
    assert prefetch.value > 1
    fixed = Prefetch(9)
    fixed.be_cautious(10)
    assert fixed.value == 1
    settle_at(fixed, 0.001, 10, 10.0)
    assert fixed.value == 9


def test_pace_knows_short_from_long() -> None:
    pace = Pace(SHORT_S, LONG_S)
    assert not pace.short, "unknown is not short"
    for _ in range(3):
        pace.record(0.0001)
    assert pace.short
    pace.record(0.5)
    assert not pace.short, "one surprise is enough"
    for _ in range(5):
        pace.record(0.5)
    assert pace.long
    for _ in range(40):
        pace.record(0.0001)
    assert pace.short, "and it is forgiven soon"
    assert not pace.long
