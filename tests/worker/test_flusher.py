"""Surprises: a task that suddenly takes long holds up neither finished neighbours nor waiting ones."""

from __future__ import annotations

import fcntl
import os
import re
import time
from pathlib import Path
from typing import Any

import apsw
import pytest

from engine.model import QueueSpec, QueueState
from tests.worker.conftest import Place
from tests.worker.harness import wait_for


def _switches(pid: int) -> int:
    """How often the threads of a process have gone to sleep."""
    tasks = Path(f"/proc/{pid}/task").glob("*/status")
    return sum(
        int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)", task.read_text(), re.M)[1]) for task in tasks
    )


def _empty(state: QueueState) -> bool:
    return state.ready == state.unacked == 0


def test_a_finished_task_is_told_while_its_neighbour_runs_long(place: Place) -> None:
    """The task is known to be short; then one run of it is not. What ended before must not wait for it."""
    gate = place.gate()
    with place.worker(concurrency=1, prefetch=20) as worker:
        place.send_many("work", range(60))
        wait_for(lambda: len(place.ledger.finished()) == 60, what="the task to be known as short")
        with place.app.batch() as box:
            short = [place.send("work", f"short-{number}", producer=box) for number in range(3)]
            place.send("work", "long", str(gate), producer=box)
        wait_for(lambda: place.ledger.count("start", "long"), what="the long one to start")
        began = time.monotonic()
        for result in short:
            result.get(timeout=3)
        assert time.monotonic() - began < 1.5
        assert not place.ledger.finished()["long"]
        gate.touch()
        assert worker.stop() == 0
    assert place.ledger.finished()["long"] == 1


def test_waiting_neighbours_are_handed_to_idle_siblings(place: Place) -> None:
    """Eight short tasks wait behind a long one in one child; the idle sibling gets them."""
    gate = place.gate()
    with place.worker(concurrency=2, prefetch=20) as worker:
        place.send("work", "first", str(gate))
        wait_for(lambda: place.ledger.count("start", "first"), what="one child to be busy")
        with place.app.batch() as box:
            place.send("work", "second", 1.5, producer=box)
            for number in range(8):
                place.send("work", number, producer=box)
        wait_for(lambda: place.ledger.count("start", "second"), what="the other child to be busy too")
        wait_for(lambda: place.ledger.finished()["second"], what="one of them to be free")
        wait_for(lambda: len(place.ledger.finished()) == 9, timeout=2.5, what="the waiting ones")
        assert not place.ledger.finished()["first"], "none of them waited for the first"
        gate.touch()
        assert worker.stop() == 0
    assert set(place.ledger.finished().values()) == {1}


def test_a_message_of_another_queue_does_not_wait_behind_a_long_task(place: Place) -> None:
    """A broker that pushes counts the prefetch for each queue: one of each may come to a busy child."""
    other, gate = f"{place.queue}-other", place.gate()
    with place.worker(concurrency=2, prefetch=1, queues=(place.queue, other)) as worker:
        place.send("work", "first", str(gate))
        wait_for(lambda: place.ledger.count("start", "first"), what="one child to be busy")
        for number in range(4):
            place.send("work", number, queue=other)
        wait_for(lambda: len(place.ledger.finished()) == 4, timeout=3, what="the other queue's")
        gate.touch()
        assert worker.stop() == 0


def test_a_task_that_is_acknowledged_early_lets_nobody_wait_behind_it(place: Place) -> None:
    gate = place.gate()
    with place.worker(concurrency=2, prefetch=1) as worker:
        place.send("early_work", "first", str(gate))
        wait_for(lambda: place.ledger.count("start", "first"), what="one child to be busy")
        for number in range(4):
            place.send("work", number)
        wait_for(lambda: len(place.ledger.finished()) == 4, timeout=3, what="the others")
        gate.touch()
        assert worker.stop() == 0


@pytest.mark.amqp
def test_a_task_whose_start_is_told_slowly_is_watched(rabbitmq: Any, tmp_path: Path, unique: str) -> None:
    results = tmp_path / "results.db"
    place = Place(rabbitmq.url, f"sqlite:///{results}", unique, tmp_path)
    gate = place.gate()
    with place.worker(concurrency=2, prefetch=20) as worker:
        place.send("add", 1, 1).get(timeout=10)
        place.send("work", "first", 1.5)
        wait_for(lambda: place.ledger.count("start", "first"), what="one child to be busy")
        line = os.open(f"{results}-writer", os.O_RDWR)
        try:
            fcntl.flock(line, fcntl.LOCK_EX)
            with place.app.batch() as box:
                told = place.send("told", str(gate), producer=box)
                for number in range(3):
                    place.send("work", number, producer=box)
            time.sleep(0.5)  # for so long the store takes no word of its start
        finally:
            os.close(line)
        wait_for(lambda: len(place.ledger.finished()) == 4, timeout=3, what="the ones behind it")
        gate.touch()
        assert told.get(timeout=10) == "done"
        assert worker.stop() == 0
    place.close()


def test_what_could_not_be_settled_beside_a_long_task_comes_again(sqlite_place: Place) -> None:
    """The file is broken for a moment; its claims must not stay with a child that has forgotten them."""
    place = sqlite_place
    with place.worker(concurrency=1, prefetch=20) as worker:
        place.send_many("work", range(60))
        wait_for(lambda: len(place.ledger.finished()) == 60, what="the task to be known as short")
        transport = place.app.open_transport()
        wait_for(lambda: transport.queue_state(place.queue).unacked == 0, what="all to be settled")
        file = apsw.Connection(str(place.folder / "broker.db"))
        file.set_busy_timeout(5000)
        file.execute(
            "CREATE TRIGGER broken BEFORE DELETE ON messages BEGIN SELECT RAISE(ABORT, 'broken'); END"
        )
        with place.app.batch() as box:
            place.send("work", "short", producer=box)
            place.send("work", "long", 2, producer=box)
        wait_for(lambda: "beside a running task failed" in worker.log(), what="the failure")
        file.execute("DROP TRIGGER broken")
        file.close()
        wait_for(lambda: place.ledger.finished()["long"], what="the long one")
        wait_for(lambda: _empty(transport.queue_state(place.queue)), timeout=5, what="all to be settled")
        transport.close()
        assert worker.stop() == 0


def test_what_was_given_back_often_goes_to_an_idle_sibling_too(sqlite_place: Place) -> None:
    """An SQLite file counts deliveries, and sets no limit to them."""
    place, gate = sqlite_place, sqlite_place.gate()
    place.send("work", "first", str(gate))
    place.send("work", "second")
    file = apsw.Connection(str(place.folder / "broker.db"))
    file.execute("UPDATE messages SET deliveries = 3")
    file.close()
    with place.worker(concurrency=2, prefetch=20) as worker:
        wait_for(lambda: place.ledger.finished()["second"], what="the one behind it")
        assert not place.ledger.finished()["first"]
        gate.touch()
        assert worker.stop() == 0


@pytest.mark.amqp
def test_what_was_given_back_often_is_kept_in_peace(rabbitmq: Any, tmp_path: Path, unique: str) -> None:
    """A quorum queue limits deliveries: it waits behind the long task, which costs no CPU."""
    place = Place(rabbitmq.url, None, unique, tmp_path)
    transport = place.app.open_transport()
    transport.declare(QueueSpec(unique, arguments={"x-queue-type": "quorum"}))
    place.send("work", "first", 3)
    place.send("work", "second")
    for _ in range(3):
        transport.consume([unique], 10)
        taken: list[Any] = []
        wait_for(lambda held=taken: held.extend(transport.receive(0.1)) or len(held) == 2, what="both")
        transport.cancel()
        transport.nack(taken, requeue=True)
    transport.close()
    with place.worker(concurrency=1, prefetch=20) as worker:
        wait_for(lambda: place.ledger.count("start", "first"), what="the long one to start")
        [child] = worker.children()
        time.sleep(0.5)  # what is done 50 ms after the start is done
        before = _switches(child.pid)
        time.sleep(1)
        assert _switches(child.pid) - before < 30, "its threads sleep"
        wait_for(lambda: place.ledger.finished()["second"], what="the one behind it")
        assert worker.stop() == 0
    place.close()


def test_outcomes_of_a_full_buffer_are_settled_in_batches(place: Place) -> None:
    with place.worker(concurrency=1) as worker:
        results = [place.send("add", number, 1) for number in range(300)]
        assert [result.get(timeout=20) for result in results] == [number + 1 for number in range(300)]
        assert worker.stop() == 0
    assert place.ready() == 0
