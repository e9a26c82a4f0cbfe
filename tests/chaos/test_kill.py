"""Kill -9 at random moments: every task is finished at least once, and few are run twice.

``CHAOS_TASKS`` and ``CHAOS_SEED`` make it longer, or the same again.
"""

from __future__ import annotations

import os
import random
import signal
import time

import psutil
import pytest

from tests.worker.conftest import Place
from tests.worker.harness import Worker, wait_for

pytestmark = pytest.mark.chaos

TASKS = int(os.environ.get("CHAOS_TASKS", "1000"))
SEED = int(os.environ.get("CHAOS_SEED", "7"))


def _finished(place: Place) -> int:
    return len(place.ledger.finished())


def _kill(process: psutil.Process) -> None:
    try:
        process.send_signal(signal.SIGKILL)
    except psutil.NoSuchProcess:
        return


def _check(place: Place, kills: int, prefetch: int) -> None:
    runs = place.ledger.finished()
    missing = [key for key in range(TASKS) if not runs[str(key)]]
    assert missing == [], f"lost {len(missing)} of {TASKS} (seed {SEED})"
    duplicates = sum(runs.values()) - TASKS
    assert duplicates <= kills * prefetch, f"{duplicates} duplicates, {kills} kills (seed {SEED})"


def test_children_are_killed_one_by_one(place: Place) -> None:
    chance = random.Random(SEED)
    kills = 0
    place.send_many("work", range(TASKS), 0.003)
    with place.worker(concurrency=3, prefetch=5) as worker:
        deadline = time.monotonic() + 80
        while _finished(place) < TASKS and time.monotonic() < deadline:
            children = worker.children()
            if children and kills < 12:
                _kill(chance.choice(children))
                kills += 1
            target = _finished(place) + chance.randrange(30, 70)
            wait_for(lambda least=target: _finished(place) >= min(least, TASKS), timeout=40, what="progress")
        assert worker.stop() == 0
    assert kills >= 8
    _check(place, kills, prefetch=5)
    assert place.ready() == 0


def test_all_children_are_killed_at_once(place: Place) -> None:
    place.send_many("work", range(TASKS), 0.003)
    kills = 0
    with place.worker(concurrency=3, prefetch=5) as worker:
        for _ in range(3):
            least = min(TASKS, _finished(place) + 100)
            wait_for(lambda least=least: _finished(place) >= least, timeout=40, what="progress")
            victims = worker.children()
            for child in victims:
                _kill(child)
            kills += len(victims)
        wait_for(lambda: _finished(place) == TASKS, timeout=60, what="all tasks")
        assert worker.stop() == 0
    _check(place, kills, prefetch=5)


def test_the_whole_tree_is_killed_and_another_takes_over(place: Place) -> None:
    place.send_many("work", range(TASKS), 0.003)
    with place.worker(concurrency=3, prefetch=5) as first:
        wait_for(lambda: _finished(place) >= TASKS // 4, timeout=40, what="progress")
        for process in [psutil.Process(first.pid), *first.descendants_alive()]:
            _kill(process)
    with place.worker(concurrency=3) as second:
        wait_for(lambda: _finished(place) == TASKS, timeout=60, what="all tasks")
        assert second.stop() == 0
    _check(place, 3, prefetch=5)


def test_the_supervisor_is_killed_and_restarted_beside_the_orphans(place: Place) -> None:
    place.send_many("work", range(TASKS), 0.003)
    workers: list[Worker] = []
    with place.worker(concurrency=2) as first:
        wait_for(lambda: _finished(place) >= TASKS // 4, timeout=40, what="progress")
        first.descendants_alive()
        os.kill(first.pid, signal.SIGKILL)
        with place.worker(concurrency=2) as second:
            wait_for(lambda: not first.descendants_alive(), timeout=10, what="the orphans to exit")
            wait_for(lambda: _finished(place) == TASKS, timeout=60, what="all tasks")
            assert second.stop() == 0
        workers += [first, second]
    _check(place, 0, prefetch=0)
    assert [worker.descendants_alive() for worker in workers] == [[], []]
