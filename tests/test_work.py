"""What is paid for every task: the parts that no worker test shows by itself."""

from __future__ import annotations

import mmap
import os
import platform
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest

from engine.codec import Delivery, TaskMessage
from engine.context import Context
from engine.signals import task_prerun
from engine.work import (
    Executor,
    Job,
    Known,
    Outcome,
    Pace,
    Runner,
    Running,
    TaskRecord,
    are_plain,
    deliveries_to,
    finished_keys,
    have_tombstones,
    publish_nothing,
    to_store,
)
from engine.worker.finished import key_of
from engine.worker.job import ACK, DROP, NOTHING, REQUEUE


class _Task:
    name = "tasks.sümme"
    ignore_result = False

    def run(self) -> None: ...


def _job(task_id: str = "id", retries: int = 0, finish: int = ACK, known: bool = True) -> Job:
    found = Known(_Task(), Pace(0.002, 0.05), frozenset()) if known else None
    job = Job(Delivery(tag=task_id), TaskMessage("tasks.sümme", task_id, retries=retries), found)
    job.finish = finish
    return job


def test_finished_keys_are_those_that_redeliveries_are_looked_up_by() -> None:
    jobs = [_job("a"), _job("b", 3), _job("ü" * 10, 12), _job("c", finish=NOTHING), _job("\ud800", 1)]
    expected = [key_of("a", 0), key_of("b", 3), key_of("ü" * 10, 12), key_of("c", 0), key_of("\ud800", 1)]
    assert finished_keys(jobs) == b"".join(expected)


def test_finished_keys_leave_out_what_is_not_done_with_or_too_long() -> None:
    jobs = [
        _job("x" * 46),
        _job("x" * 45),
        _job("back", finish=REQUEUE),
        _job("dead", finish=DROP),
        _job("stranger", known=False),
        _job("y" * 45, 10),
    ]
    assert key_of("x" * 46, 0) == key_of("y" * 45, 10) == b""
    assert finished_keys(jobs) == key_of("x" * 45, 0)
    assert finished_keys([]) == b""


def test_jobs_are_asked_together() -> None:
    kept, sent, told = _job("kept"), _job("sent", finish=DROP), _job("told", finish=NOTHING)
    kept.outcome = Outcome("SUCCESS", 1)
    sent.outcome = Outcome("RETRY", store=False, publish=["message"])
    told.tombstone_id = "told"
    assert to_store([kept, sent, told]) == [kept]
    assert deliveries_to(DROP, [kept, sent, told]) == [sent.delivery]
    assert are_plain([kept])
    assert not are_plain([kept, told])
    assert not are_plain([sent])
    assert publish_nothing([kept, told])
    assert not publish_nothing([kept, sent])
    assert have_tombstones([kept, told])
    assert not have_tombstones([kept, sent])


@pytest.mark.parametrize(("record_at", "word_at"), [(-1, 0), (129, 0), (0, 253), (0, -4)])
def test_a_record_outside_its_memory_is_refused(record_at: int, word_at: int) -> None:
    with mmap.mmap(-1, 256) as memory, pytest.raises(ValueError, match="fits"):
        TaskRecord(memory, record_at, word_at)


def test_an_unsettled_outcome_is_not_stored_and_publishes_nothing() -> None:
    job = _job()
    assert (job.outcome.state, job.outcome.store, tuple(job.outcome.publish)) == ("PENDING", False, ())


_FAULTS = """
import platform, resource, sys
from engine.work import keep_heap
if sys.argv[1] == "keep":
    known = keep_heap(1 << 20, 8 << 20)
    assert known is (platform.libc_ver()[0] == "glibc")
def take(): return [bytearray(100_000) for _ in range(4)]
for _ in range(10): take()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(200): take()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives its heap back so eagerly")
def test_a_heap_that_is_kept_costs_no_page_faults() -> None:
    def faults(how: str) -> int:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
        done = subprocess.run(
            [sys.executable, "-c", _FAULTS, how], env=environment, capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    assert faults("keep") < faults("as it is") / 10


class _SlowMaker(Executor):
    """Makes requests for two threads that ask at the same time."""

    meeting = threading.Barrier(2)

    def request(self, message: TaskMessage, delivery: Delivery) -> object:
        self.meeting.wait(10)
        return Context(message)


class _AskingRunner(Runner):
    def run(self, app: Any, running: Running, *_more: Any) -> Outcome:
        with ThreadPoolExecutor(2) as threads:
            return Outcome("SUCCESS", list(threads.map(lambda _: running.request, range(2))))


def test_threads_of_a_task_that_ask_at_once_see_one_request() -> None:
    """Its outbox holds what is to be sent: of two, one would be lost."""
    executor = _SlowMaker(None, _AskingRunner(), None, task_prerun, ())
    first, second = executor.run(_job(), 0.0).result
    assert first is second


class _Watched:
    """A task that notes what is looked up in it."""

    name = "tasks.watched"
    asked: ClassVar[list[str]] = []

    def __getattribute__(self, name: str) -> Any:
        _Watched.asked.append(name)
        return object.__getattribute__(self, name)

    def run(self) -> str:
        return "ran"


@pytest.mark.parametrize("stores", [True, False])
def test_a_plain_run_looks_up_nothing_in_its_task(stores: bool) -> None:
    """Each look costs 0.5 µs where thousands of tasks take turns: their classes overflow Python's cache."""
    known = Known(_Watched(), Pace(0.002, 0.05), frozenset())
    known.stores = stores
    job = Job(Delivery(), TaskMessage("tasks.watched", "id"), known)
    _Watched.asked.clear()
    outcome = Executor(None, Runner(), None, task_prerun, ()).run(job, 0.0)
    assert (outcome.state, outcome.result, outcome.store) == ("SUCCESS", "ran", stores)
    assert _Watched.asked == []
