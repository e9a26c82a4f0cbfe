"""The scoreboard: what one process writes another reads, and never half of it."""

from __future__ import annotations

import os
import time

import pytest

from engine.worker import scoreboard
from engine.worker.scoreboard import RUNNING, SLOT_BYTES, Scoreboard


def test_slot_reads_back_what_was_written() -> None:
    slot = Scoreboard(2).slot(1)
    slot.progress(pid=42, generation=3, done=7, failed=1, stamp_mono_s=5.5)
    slot.record().begin("the-id", "tasks.sümme", 10.25, 12.5, RUNNING)
    view = slot.read()
    assert view is not None
    assert (view.pid, view.generation, view.done, view.failed, view.stamp_mono_s) == (42, 3, 7, 1, 5.5)
    assert (view.task_id, view.task_name) == ("the-id", "tasks.sümme")
    assert (view.started_mono_s, view.deadline_mono_s, view.phase) == (10.25, 12.5, scoreboard.RUNNING)


def test_phase_changes_leave_the_task_record_alone() -> None:
    slot = Scoreboard(1).slot(0)
    slot.record().begin("id", "name", 1.0, 0.0, RUNNING)
    slot.phase(scoreboard.SETTLING)
    view = slot.read()
    assert view is not None
    assert (view.phase, view.task_id) == (scoreboard.SETTLING, "id")


def test_slots_do_not_touch_each_other() -> None:
    board = Scoreboard(3)
    for index in range(3):
        board.slot(index).record().begin("x" * 100, "n" * 100, float(index), 0.0, RUNNING)
    board.slot(1).clear()
    views = [board.slot(index).read() for index in range(3)]
    assert [view.started_mono_s for view in views if view is not None] == [0.0, 0.0, 2.0]
    assert views[0] is not None
    assert views[0].task_id == "x" * 48


def test_a_torn_record_is_not_believed() -> None:
    board = Scoreboard(1)
    slot = board.slot(0)
    slot.record().begin("id", "name", 1.0, 0.0, RUNNING)
    board._map[SLOT_BYTES - 8 : SLOT_BYTES] = bytes(8)  # the tail of the record has not been written yet
    assert slot.read() is None


def test_commands_go_the_other_way() -> None:
    slot = Scoreboard(1).slot(0)
    assert slot.command == scoreboard.GO_ON
    slot.command = scoreboard.QUIT
    slot.progress(1, 1, 1, 1, 1.0)
    slot.record().begin("id", "name", 1.0, 0.0, RUNNING)
    assert slot.command == scoreboard.QUIT


def test_running_elsewhere_sees_siblings_and_not_itself() -> None:
    board = Scoreboard(4)
    board.slot(2).record().begin("abc-1", "name", 1.0, 0.0, RUNNING)
    assert board.running_elsewhere(b"abc-1", own_index=0)
    assert not board.running_elsewhere(b"abc-1", own_index=2)
    assert not board.running_elsewhere(b"abc", own_index=0), "a prefix is another id"
    board.slot(2).phase(scoreboard.IDLE)
    assert not board.running_elsewhere(b"abc-1", own_index=0)
    board.slot(3).record().begin("abc-1", "name", 1.0, 0.0, RUNNING)
    assert board.running_elsewhere(b"abc-1", own_index=0), "the second one that matches counts too"


@pytest.mark.parametrize("size", [48, 60])
def test_running_elsewhere_with_ids_longer_than_the_record(size: int) -> None:
    board = Scoreboard(2)
    board.slot(1).record().begin("i" * size, "name", 1.0, 0.0, RUNNING)
    assert board.running_elsewhere(b"i" * size, own_index=0)


def test_a_reader_never_sees_a_mix_of_two_tasks() -> None:
    """A child process writes as fast as it can; every view read meanwhile belongs to one task."""
    board = Scoreboard(1)
    slot = board.slot(0)
    pid = os.fork()
    if pid == 0:
        try:
            number, record = 0, slot.record()
            while slot.command != scoreboard.QUIT:
                number += 1
                record.begin(f"{number:048d}", f"{number:040d}", float(number), float(number), RUNNING)
        finally:
            os._exit(0)
    deadline = time.monotonic() + 20
    seen = set()
    try:
        while len(seen) < 2000 and time.monotonic() < deadline:
            view = slot.read()
            if view is not None and view.task_id:
                number = int(view.task_id)
                assert (int(view.task_name), view.started_mono_s, view.deadline_mono_s) == (number,) * 3
                seen.add(number)
    finally:
        slot.command = scoreboard.QUIT
        os.waitpid(pid, 0)
    assert len(seen) == 2000
