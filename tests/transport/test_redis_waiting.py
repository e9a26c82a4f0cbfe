"""Many that wait for the same queue: few are woken by a message, all are there for many, none is missed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.transport.redis import RedisTransport
from tests.transport.redis_support import Desk, desk_at, put, wait_until
from tools.brokers import Redis

pytestmark = pytest.mark.redis

FLEET = 12


@pytest.fixture
def desk(tmp_path: Path, unique: str) -> Iterator[Desk]:
    """At a Redis of this test's own: its calls are counted."""
    server = Redis(tmp_path / "own")
    server.start()
    with desk_at(server.url, unique) as made:
        yield made
    server.stop()


class Waiter(threading.Thread):
    """A transport in a thread of its own that takes one message at a time, and holds it until told."""

    def __init__(self, desk: Desk, queues: list[str], hold: bool = False) -> None:
        super().__init__()
        self.transport = desk.open()
        self.transport.consume(queues, 1)
        self.hold = hold
        self.taken: list[float] = []
        self.reading, self.writing = os.pipe()
        self.transport.wake_fds = (self.reading,)
        self.stopping = False

    def run(self) -> None:
        while not self.stopping:
            held = self.transport.receive(60)
            if held:
                self.taken.append(time.monotonic())
                if not self.hold:
                    self.transport.ack(held)

    def end(self) -> None:
        self.stopping = True
        os.write(self.writing, b"!")
        self.join(10)
        assert not self.is_alive()
        os.close(self.reading)
        os.close(self.writing)


@pytest.fixture
def fleet(desk: Desk) -> Iterator[list[Waiter]]:
    waiters: list[Waiter] = []
    yield waiters
    for waiter in waiters:
        waiter.end()


def _start(desk: Desk, fleet: list[Waiter], queue: str, **options: Any) -> None:
    fleet += [Waiter(desk, [queue], **options) for _ in range(FLEET)]
    for waiter in fleet:
        waiter.start()
    wait_until(lambda: _idle(desk) >= FLEET - 2, "all to wait")


def _idle(desk: Desk) -> int:
    return sum(desk.raw.zcard(key) for key in desk.raw.scan_iter("engine.idle.*"))


def _calls(desk: Desk) -> int:
    return int(desk.raw.info("commandstats")["cmdstat_evalsha"]["calls"])


def _taken(fleet: list[Waiter]) -> int:
    return sum(len(waiter.taken) for waiter in fleet)


@pytest.mark.alone
def test_a_message_wakes_few(desk: Desk, fleet: list[Waiter]) -> None:
    queue = desk.queue()
    publisher = desk.open()
    _start(desk, fleet, queue)
    messages = 40
    before, started_mono_s = _calls(desk), time.monotonic()
    delays = []
    for number in range(1, messages + 1):
        sent_mono_s = time.monotonic()
        put(publisher, queue, "x")
        wait_until(lambda number=number: _taken(fleet) == number, "the message to be taken")
        delays.append(time.monotonic() - sent_mono_s)
    looks = 3 * FLEET * (time.monotonic() - started_mono_s + 1)  # what everybody does once a second
    assert (_calls(desk) - before - looks) / messages < 8, "a herd of 12 would make 12 calls or more"
    assert sorted(delays)[messages // 2] < 0.05


@pytest.mark.alone
def test_many_messages_wake_all(desk: Desk, fleet: list[Waiter]) -> None:
    queue = desk.queue()
    publisher = desk.open()
    _start(desk, fleet, queue, hold=True)
    sent_mono_s = time.monotonic()
    put(publisher, queue, *("x" for _ in range(FLEET)))
    wait_until(lambda: _taken(fleet) == FLEET, "everybody to have one")
    assert time.monotonic() - sent_mono_s < 0.9, "without waiting for the look once a second"
    assert [len(waiter.taken) for waiter in fleet] == [1] * FLEET


@pytest.mark.alone
def test_watchers_that_stop_or_die_are_replaced(desk: Desk) -> None:
    queue = desk.queue()
    publisher = desk.open()
    watchers = [desk.open() for _ in range(2)]
    third = desk.open()
    for transport in (*watchers, third):
        transport.consume([queue], 1)
        assert transport.receive(0.05) == []
    assert [transport._claims._watching for transport in (*watchers, third)] == [1, 1, 0]
    watchers[0].cancel()
    assert _delay(publisher, third, queue) < 0.2
    watchers[1].abandon()
    assert _delay(publisher, third, queue) < 0.2
    first_again = watchers[0]
    first_again.consume([queue], 1)
    assert _delay(publisher, first_again, queue) < 1.5


def _delay(publisher: RedisTransport, waiting: RedisTransport, queue: str) -> float:
    """Seconds from the publish to the delivery."""
    sent: list[float] = []

    def send() -> None:
        sent.append(time.monotonic())
        put(publisher, queue, "x")

    timer = threading.Timer(0.3, send)
    timer.start()
    held = waiting.receive(10)
    came_mono_s = time.monotonic()
    timer.join()
    waiting.ack(held)
    assert len(held) == 1
    return came_mono_s - sent[0]


def test_a_wake_is_heard_while_nothing_more_may_be_taken(desk: Desk) -> None:
    queue = desk.queue()
    publisher, full = desk.open(), desk.open()
    full.consume([queue], 1)
    assert full.receive(0.05) == []  # it watches
    put(publisher, queue, *"abc")
    held = full.receive(5)
    put(publisher, queue, "d")  # told of, and not to be taken
    reading, writing = os.pipe()
    full.wake_fds = (reading,)
    timer = threading.Timer(0.3, os.write, (writing, b"!"))
    timer.start()
    started_cpu_s, started_mono_s = time.thread_time(), time.monotonic()
    assert full.receive(20) == []
    assert time.monotonic() - started_mono_s < 5
    assert time.thread_time() - started_cpu_s < 0.1, "it spins"
    timer.join()
    full.wake_fds = ()
    os.close(reading)
    os.close(writing)
    full.ack(held)


def test_other_keys_do_not_wake(desk: Desk) -> None:
    """What happens to other queues, and to what others hold, is nobody's business who waits here."""
    quiet, busy = desk.queue("-quiet"), desk.queue("-busy")
    waiting, working = desk.open(), desk.open()
    waiting.consume([quiet], 1)
    working.consume([busy], 10)
    assert waiting.receive(0.05) == []
    pushes: list[Any] = []
    session = waiting._session
    assert session is not None
    session.wire.on_push = pushes.append
    for _ in range(20):
        put(working, busy, "x")
        working.ack(working.receive(5))
    session.wire.poll_pushes()
    assert pushes == []
