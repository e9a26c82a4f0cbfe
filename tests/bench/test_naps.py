"""The queues of `sharing`, and the best they could do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.bench.naps import SCENARIOS, Nap, ideal_s, naps_of
from engine.bench.plan import WORKLOADS

queues = st.lists(st.builds(Nap, st.floats(0.001, 5.0), st.booleans()), min_size=1, max_size=60)


def test_each_scenario_is_a_workload() -> None:
    assert WORKLOADS["sharing"] == tuple(f"sharing-{letter}" for letter in SCENARIOS)


@pytest.mark.parametrize(
    ("workload", "tasks", "work_s"),
    [
        ("sharing-a", 10_000, 10.0),
        ("sharing-b", 64, 64.0),
        ("sharing-c", 500, 25 * 2.0 + 475 * 0.005),
        ("sharing-d", 401, 9.0),
        ("sharing-e", 1_040, 1.0 + 40 * 0.5),
    ],
)
def test_full_scale(workload: str, tasks: int, work_s: float) -> None:
    naps = naps_of(workload, 1.0)
    assert len(naps) == tasks
    assert sum(nap.seconds for nap in naps) == pytest.approx(work_s)
    assert sum(nap.seconds for nap in naps_of(workload, 0.1)) < work_s / 5
    assert naps_of(workload, 1.0) == naps, "the same order every time"


def test_ideal_of_one_long_task_before_many_short_ones() -> None:
    last_s, short_s = ideal_s(naps_of("sharing-d", 1.0), 4)
    assert last_s == pytest.approx(5.0)
    assert short_s == pytest.approx(1.34)


def test_ideal_of_equal_tasks_is_their_share() -> None:
    assert ideal_s(naps_of("sharing-b", 1.0), 4) == (pytest.approx(16.0), 0.0)


@given(queues, st.integers(1, 8))
def test_ideal_lies_within_its_bounds(naps: list[Nap], processes: int) -> None:
    last_s, short_s = ideal_s(naps, processes)
    work_s, longest_s = sum(nap.seconds for nap in naps), max(nap.seconds for nap in naps)
    assert max(work_s / processes, longest_s) <= last_s * (1 + 1e-9)
    assert last_s <= work_s / processes + longest_s + 1e-9
    assert short_s <= last_s
    assert (short_s > 0) == any(nap.short for nap in naps)
