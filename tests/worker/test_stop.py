"""Stopping: warm, cold, by deadline, by the supervisor's death. Nothing is lost, nobody stays."""

from __future__ import annotations

import os
import signal
import time

from tests.worker.conftest import Place
from tests.worker.harness import Worker, wait_for


def test_warm_stop_finishes_the_running_task_and_hands_back_the_rest(place: Place) -> None:
    with place.worker(concurrency=1, prefetch=10) as worker:
        place.send_many("work", range(6), 0.6)
        wait_for(lambda: place.ledger.count("start"), what="the first task to start")
        assert worker.stop() == 0
    started = place.ledger.count("start")
    assert started == sum(place.ledger.finished().values()) < 6
    wait_for(lambda: place.ready() == 6 - started, what="the others to be back in the queue")
    assert worker.descendants_alive() == []


def test_idle_workers_stop_at_once(place: Place) -> None:
    with place.worker() as worker:
        place.send("add", 1, 1).get(timeout=20)
        began = time.monotonic()
        assert worker.stop(signal.SIGINT) == 0
        assert time.monotonic() - began < 2.5
    assert worker.descendants_alive() == []


def test_second_term_changes_nothing(sqlite_place: Place) -> None:
    with sqlite_place.worker(concurrency=1) as worker:
        sqlite_place.send("work", "long", 1.5)
        wait_for(lambda: sqlite_place.ledger.count("start", "long"), what="the task to start")
        worker.send_signal(signal.SIGTERM)
        wait_for(lambda: "warm stop" in worker.log(), what="the warm stop")
        assert worker.stop(signal.SIGTERM) == 0
    assert sqlite_place.ledger.finished()["long"] == 1


def test_second_interrupt_is_a_cold_stop(place: Place) -> None:
    with place.worker(concurrency=1) as worker:
        place.send("work", "long", 60)
        wait_for(lambda: place.ledger.count("start", "long"), what="the task to start")
        worker.send_signal(signal.SIGINT)
        wait_for(lambda: "warm stop" in worker.log(), what="the warm stop")
        began = time.monotonic()
        assert worker.stop(signal.SIGINT) == 3
        assert time.monotonic() - began < 5
    assert worker.descendants_alive() == []
    assert not place.ledger.finished()
    with place.worker(concurrency=1):
        wait_for(lambda: place.ledger.count("start", "long") == 2, timeout=30, what="the task to run again")


def test_a_soft_shutdown_lets_short_tasks_end(sqlite_place: Place) -> None:
    sqlite_place.environ["ENGINE_WORKER_SOFT_SHUTDOWN_TIMEOUT"] = "3"
    with sqlite_place.worker(concurrency=2) as worker:
        sqlite_place.send("work", "short", 1)
        sqlite_place.send("work", "long", 60)
        wait_for(lambda: sqlite_place.ledger.count("start") == 2, what="both tasks to start")
        began = time.monotonic()
        assert worker.stop(signal.SIGQUIT) == 3
        assert 2.5 < time.monotonic() - began < 10
    assert sqlite_place.ledger.finished() == {"short": 1}
    assert "running tasks have 3 s to end" in worker.log()


def test_a_soft_shutdown_ends_with_the_last_task_or_at_the_next_signal(sqlite_place: Place) -> None:
    sqlite_place.environ["ENGINE_WORKER_SOFT_SHUTDOWN_TIMEOUT"] = "60"
    with sqlite_place.worker(concurrency=1) as worker:
        sqlite_place.send("work", "short", 1)
        wait_for(lambda: sqlite_place.ledger.count("start"), what="the task to start")
        assert worker.stop(signal.SIGQUIT, timeout=15) == 0
    with sqlite_place.worker(concurrency=1) as worker:
        sqlite_place.send("work", "long", 60)
        wait_for(lambda: sqlite_place.ledger.count("start", "long"), what="the task to start")
        worker.send_signal(signal.SIGQUIT)
        wait_for(lambda: "running tasks have 60 s" in worker.log(), what="the soft shutdown")
        assert worker.stop(signal.SIGINT, timeout=15) == 3


def test_drain_deadline(sqlite_place: Place) -> None:
    with sqlite_place.worker(concurrency=1, drain_deadline_s=0.5) as worker:
        sqlite_place.send("work", "long", 60)
        wait_for(lambda: sqlite_place.ledger.count("start", "long"), what="the task to start")
        assert worker.stop(timeout=10) == 3
    assert "drain deadline" in worker.log()


def test_killed_supervisor_leaves_nobody_behind(place: Place) -> None:
    with place.worker(concurrency=3) as worker:
        wait_for(lambda: len(worker.children()) == 3, what="all children")
        place.send("work", "busy", 1.5)
        wait_for(lambda: place.ledger.count("start", "busy"), what="the task to start")
        os.kill(worker.pid, signal.SIGKILL)
        wait_for(lambda: len(worker.descendants_alive()) <= 1, timeout=3, what="idle children to exit")
        wait_for(lambda: not worker.descendants_alive(), timeout=10, what="the busy child to exit")
    assert place.ledger.finished()["busy"] == 1, "it finished its task first"
    assert place.ready() == 0


def test_an_orphan_whose_task_hangs_ends_at_its_hard_limit(sqlite_place: Place) -> None:
    with sqlite_place.worker(concurrency=1) as worker:
        sqlite_place.send("hard", "hang", time_limit=2)
        wait_for(lambda: sqlite_place.ledger.count("start", "hang"), what="the task to start")
        worker.descendants_alive()
        os.kill(worker.pid, signal.SIGKILL)
        wait_for(lambda: not worker.descendants_alive(), timeout=8, what="the child to end itself")


def test_a_restarted_worker_takes_over(place: Place) -> None:
    """Rolling restart under load: every task is finished exactly once."""
    place.send_many("work", range(200), 0.005)
    for _ in range(3):
        with place.worker() as worker:
            before = sum(place.ledger.finished().values())
            wait_for(
                lambda seen=before: sum(place.ledger.finished().values()) > seen + 20 or place.ready() == 0
            )
            assert worker.stop() == 0
    with place.worker():
        wait_for(lambda: len(place.ledger.finished()) == 200, timeout=40, what="all tasks")
    assert set(place.ledger.finished().values()) == {1}


_APP_WITH_SIGNALS = """
import signal
from engine.signals import worker_ready
from tests.worker.sample_app import app

worker_ready.connect(lambda **_: signal.signal(signal.SIGTERM, signal.SIG_DFL), weak=False)
"""


def test_what_an_app_does_to_signals_once_it_is_ready_is_not_for_later_children(sqlite_place: Place) -> None:
    """Service managers send SIGTERM to every process of a worker: each child ends its task first."""
    place, ledger = sqlite_place, sqlite_place.ledger
    (place.folder / "signals_app.py").write_text(_APP_WITH_SIGNALS)
    with Worker(
        place.folder, place.environ, app="signals_app:app", concurrency=1, max_tasks_per_child=1
    ) as worker:
        first = place.send("whoami").get(timeout=20)["pid"]
        place.send("work", "long", str(place.gate()))
        wait_for(lambda: ledger.count("start", "long"), what="the task to start")
        child = ledger.pid_of("start", "long")
        assert child != first
        os.kill(child, signal.SIGTERM)
        place.gate().touch()
        wait_for(lambda: ledger.count("finish", "long", child), what="that child to finish it")
        assert worker.stop() == 0
