"""The plan travels through the environment, and refuses what measures nothing."""

from dataclasses import replace

import pytest

from engine.bench.plan import WORKLOADS, Plan, check
from engine.bench.workloads import BY_NAME
from engine.errors import ConfigurationError

PLAN = Plan("amqp://localhost", folder="/tmp/x", queue="q", worker_args=("--prefetch", "1"), results=None)


def test_plan_travels_through_the_environment() -> None:
    assert Plan.from_env(PLAN.to_env()) == PLAN


def test_without_a_plan_the_message_names_the_command() -> None:
    with pytest.raises(ConfigurationError, match="engine bench"):
        Plan.from_env({})


@pytest.mark.parametrize("name", ["tasks", "runs", "concurrency", "batch"])
def test_figures_below_one_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"--{name} must be at least 1"):
        check(replace(PLAN, **{name: 0}))


def test_negative_figures_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="--warmup"):
        check(replace(PLAN, warmup=-1))


def test_scaled_never_reaches_zero() -> None:
    assert PLAN.scaled(0.1).tasks == 1_000
    assert replace(PLAN, tasks=3).scaled(0.1).tasks == 1


@pytest.mark.parametrize("name", ["scale", "idle_s"])
def test_lengths_of_zero_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"--{name.partition('_')[0]} must be above 0"):
        check(replace(PLAN, **{name: 0.0}))


def test_every_workload_that_can_be_asked_for_is_known() -> None:
    assert {name for names in WORKLOADS.values() for name in names} == set(BY_NAME)
