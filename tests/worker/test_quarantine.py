"""Crash counts and tombstones."""

from __future__ import annotations

from engine.worker import quarantine
from engine.worker.quarantine import CRASHED, TIME_LIMIT, WORKER_LOST, Quarantine, Tombstone


def test_the_third_crash_of_one_task_is_once_too_often() -> None:
    book = Quarantine(max_crashes=3)
    assert book.crashed("a", "killed by SIGSEGV").kind == CRASHED
    assert book.crashed("b", "killed by SIGSEGV").kind == CRASHED
    assert book.crashed("a", "killed by SIGSEGV").kind == CRASHED
    tombstone = book.crashed("a", "killed by SIGSEGV")
    assert (tombstone.task_id, tombstone.kind) == ("a", WORKER_LOST)
    assert "killed by SIGSEGV" in tombstone.detail
    assert book.crashes("b") == 1
    assert {name: stone.kind for name, stone in book.tombstones.items()} == {"a": WORKER_LOST, "b": CRASHED}


def test_a_task_that_ended_well_starts_from_zero() -> None:
    book = Quarantine(max_crashes=2)
    book.crashed("a", "exit code 1")
    assert book.buried("a")
    assert book.crashed("a", "exit code 1").kind == CRASHED


def test_a_buried_task_may_be_sent_anew() -> None:
    book = Quarantine(max_crashes=1)
    assert book.crashed("a", "exit code 1").kind == WORKER_LOST
    assert book.buried("a")
    assert not book.buried("a")
    assert not book.tombstones
    assert book.crashes("a") == 0


def test_a_time_limit_is_final_at_once() -> None:
    tombstone = Quarantine(3).timed_out("a", 2.5, "Thread 1:\n  sleep")
    assert (tombstone.kind, tombstone.limit_s, tombstone.stack) == (TIME_LIMIT, 2.5, "Thread 1:\n  sleep")


def test_tombstones_travel() -> None:
    tombstone = Tombstone("a", TIME_LIMIT, "killed at its hard time limit of 2 s", 2.0, "stack")
    assert Tombstone.from_message(tombstone.to_message()) == tombstone
    long = Tombstone("a", TIME_LIMIT, "detail", 2.0, "x" * 100_000)
    assert len(str(long.to_message())) < 20_000


def test_memory_is_bounded() -> None:
    book = Quarantine(max_crashes=2)
    for number in range(quarantine.CAPACITY + 10):
        book.crashed(str(number), "exit code 1")
        book.timed_out(str(number), 1.0, None)
    assert len(book.tombstones) == quarantine.CAPACITY
    assert book.crashes("0") == 0
    assert book.crashes(str(quarantine.CAPACITY)) == 1
