"""The bookkeeping of children: how many, when, and what a death means."""

from __future__ import annotations

import pytest

from engine.worker.children import BACKOFF_MAX_S, KILLED_AT_BOOT, Children, Death, State


def ready_children(count: int) -> Children:
    children = Children(count, 2 * count + 2)
    for number in range(count):
        child = children.spawning(0.0)
        child.pid = 100 + number
        children.ready(child.slot, 0.5)
    return children


def test_starts_as_many_as_are_missing() -> None:
    children = Children(3, 8)
    assert children.plan(0.0).spawn == 3
    for _ in range(3):
        children.spawning(0.0)
    assert children.plan(0.0).spawn == 0
    assert sorted(child.slot for child in children) == [0, 1, 2]


def test_a_recycled_child_is_replaced_before_it_ends() -> None:
    children = ready_children(2)
    children.draining(0)
    assert children.plan(1.0).spawn == 1
    assert children.spawning(1.0).slot == 2
    assert children.died(0, 0, 2.0)[1] is Death.ORDERLY
    assert children.plan(2.0).spawn == 0
    children.draining(1)
    assert children.spawning(3.0).slot == 0, "freed slots are used again"


def test_exit_code_0_at_work_is_a_crash() -> None:
    children = ready_children(2)
    assert children.died(0, 0, 1.0, at_work=True)[1] is Death.CRASH
    assert children.died(1, 0, 1.0, at_work=True)[1] is Death.CRASH
    assert children.plan(1.0).spawn == 0, "the second one in a row makes the next wait"


def test_the_first_crash_is_answered_at_once_then_ever_later() -> None:
    children = ready_children(1)
    waits = []
    now = 1.0
    for _ in range(14):
        slot = next(iter(children)).slot
        assert children.died(slot, -9, now)[1] is Death.CRASH
        plan = children.plan(now)
        if plan.spawn == 0:
            assert plan.wait_until_mono_s is not None
            waits.append(round(plan.wait_until_mono_s - now, 3))
            now = plan.wait_until_mono_s
            assert children.plan(now).spawn == 1
        else:
            waits.append(0.0)
        child = children.spawning(now)
        children.ready(child.slot, now + 0.1)
        now += 0.2
    assert waits[:5] == [0.0, 0.1, 0.2, 0.4, 0.8]
    assert waits == sorted(waits)
    assert waits[-1] == BACKOFF_MAX_S


def test_a_child_that_did_tasks_is_replaced_soon() -> None:
    children = ready_children(1)
    now = 1.0
    for _ in range(20):
        children.died(next(iter(children)).slot, -9, now, tasks_done=1)
        wait_until = children.plan(now).wait_until_mono_s
        assert wait_until is None or wait_until - now <= 0.1 + 1e-9
        now += 0.1
        children.ready(children.spawning(now).slot, now)


def test_a_child_that_stayed_up_ends_the_backoff() -> None:
    children = ready_children(1)
    for now in (1.0, 2.0, 3.0):
        children.died(next(iter(children)).slot, 1, now)
        child = children.spawning(now)
        children.ready(child.slot, now)
    assert children.crashes_in_a_row == 3
    children.died(next(iter(children)).slot, 1, 30.0)
    assert children.crashes_in_a_row == 1
    assert children.plan(30.0).spawn == 1


def test_boot_failures_are_counted_until_one_gets_ready() -> None:
    children = Children(1, 4)
    for failures in (1, 2, 3):
        child = children.spawning(0.0)
        assert children.died(child.slot, 1, 0.0)[1] is Death.BOOT_FAILURE
        assert children.boot_failures_in_a_row == failures
    child = children.spawning(0.0)
    children.ready(child.slot, 0.0)
    assert children.boot_failures_in_a_row == 0


def test_exit_code_zero_before_ready_is_a_boot_failure_too() -> None:
    children = Children(1, 4)
    child = children.spawning(0.0)
    assert children.died(child.slot, 0, 0.0)[1] is Death.BOOT_FAILURE


@pytest.mark.parametrize(
    ("reason", "death"), [("hard time limit", Death.DELIBERATE), (KILLED_AT_BOOT, Death.BOOT_FAILURE)]
)
def test_a_kill_of_ours_is_no_crash(reason: str, death: Death) -> None:
    children = Children(1, 4)
    child = children.spawning(0.0)
    if death is Death.DELIBERATE:
        children.ready(child.slot, 0.0)
    child.state, child.killed_for = State.KILLED, reason
    assert children.died(child.slot, -9, 1.0)[1] is death


def test_a_new_generation_replaces_children_one_by_one() -> None:
    """Never fewer serve than were asked for, never more than one above it, and the old go one at a time."""
    children = ready_children(3)
    children.generation = 2
    now = 1.0
    for _ in range(3):
        assert children.plan(now).spawn == 1
        fresh = children.spawning(now)
        assert children.plan(now).spawn == 0, "one at a time"
        assert children.plan(now).drain == (), "the replacement is not ready yet"
        children.ready(fresh.slot, now)
        (drained,) = children.plan(now).drain
        assert children.by_slot[drained].generation == 1
        children.draining(drained)
        now += 1.0
        children.died(drained, 0, now)
    assert {child.generation for child in children} == {2}
    assert children.plan(now) == children.plan(now).__class__()


def test_nothing_is_started_while_stopping() -> None:
    children = ready_children(2)
    children.died(0, -9, 1.0)
    children.stopping = True
    assert children.plan(50.0).spawn == 0


def test_too_many_children_are_drained_youngest_first() -> None:
    children = ready_children(2)
    third = children.spawning(9.0)
    assert children.plan(9.0).drain == (third.slot,)
