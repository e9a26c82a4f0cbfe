"""What is memory's own; the contract is tested in tests/conformance."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from engine.codec import Message
from engine.errors import QueueNotFound
from engine.model import QueueSpec
from engine.transport.memory import MemoryTransport
from tests.transport.sqlite_support import wait_until


@pytest.fixture
def url(unique: str) -> str:
    return f"memory://{unique}"


@pytest.fixture
def transport(url: str) -> Iterator[MemoryTransport]:
    made = MemoryTransport(url)
    made.connect()
    yield made
    made.close()


def _take(transport: MemoryTransport, queue: str) -> list[bytes]:
    transport.consume([queue], 100)
    taken = []
    while some := transport.receive(0):
        transport.ack(some)
        taken += [delivery.body for delivery in some]
    return taken


def test_names_are_brokers_of_their_own(url: str, transport: MemoryTransport) -> None:
    transport.declare(QueueSpec("q"))
    same, other = MemoryTransport(url), MemoryTransport(f"{url}-other")
    same.connect()
    other.connect()
    assert same.queue_state("q").ready == 0
    with pytest.raises(QueueNotFound, match="-other"):
        other.queue_state("q")
    same.close()
    other.close()


def test_threads_share_without_loss(url: str, transport: MemoryTransport) -> None:
    transport.declare(QueueSpec("q"))
    seen: list[bytes] = []

    def consume() -> None:
        own = MemoryTransport(url)
        own.connect()
        own.consume(["q"], 3)
        while True:
            some = own.receive(10)
            own.ack(some)
            seen.extend(delivery.body for delivery in some if delivery.body)
            if not some or any(not delivery.body for delivery in some):
                break
        own.close()

    threads = [threading.Thread(target=consume) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(500):
        assert transport.publish([Message(b"%d" % number, routing_key="q")]) == [None]
    wait_until(lambda: len(seen) == 500, "all to be seen")
    for left in (3, 2, 1, 0):  # one at a time, as nobody else is to take two of them
        assert transport.publish([Message(b"", routing_key="q")]) == [None]
        wait_until(
            lambda left=left: sum(thread.is_alive() for thread in threads) == left, "one of them to end"
        )
    assert sorted(map(int, seen)) == list(range(500))
    transport.delete_queue("q")


def test_a_forked_child_starts_empty(url: str, transport: MemoryTransport) -> None:
    transport.declare(QueueSpec("q"))
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            own = MemoryTransport(url)
            own.connect()
            own.declare(QueueSpec("q2"))
            with pytest.raises(QueueNotFound):
                own.queue_state("q")
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    with pytest.raises(QueueNotFound):
        transport.queue_state("q2")


def test_what_is_changed_by_one_receiver_is_not_seen_by_the_next(transport: MemoryTransport) -> None:
    transport.declare(QueueSpec("q"))
    transport.publish([Message(b"x", routing_key="q", headers={"list": [1]})])
    transport.consume(["q"], 1)
    [first] = transport.receive(1)
    first.headers["list"].append(2)
    transport.nack([first], requeue=True)
    [second] = transport.receive(1)
    assert second.headers == {"list": [1]}


@pytest.mark.parametrize("how", ["rejected", "expired"])
def test_dead_letters(transport: MemoryTransport, how: str) -> None:
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    transport.declare(QueueSpec("dead"))
    transport.declare(QueueSpec("q", arguments=arguments))
    message = Message(
        b"x", routing_key="q", headers={"own": 1}, expiration_ms=0 if how == "expired" else None
    )
    transport.publish([message])
    if how == "rejected":
        transport.consume(["q"], 1)
        transport.nack(transport.receive(1), requeue=False)
    assert transport.queue_state("q").ready == 0
    transport.consume(["dead"], 1)
    [letter] = transport.receive(1)
    assert letter.body == b"x"
    assert letter.header("own") == 1
    assert letter.header("x-first-death-queue") == "q"
    assert letter.header("x-first-death-reason") == how


def test_a_queue_is_not_its_own_dead_letter_queue(transport: MemoryTransport) -> None:
    transport.declare(QueueSpec("q", arguments={"x-dead-letter-exchange": ""}))
    transport.publish([Message(b"x", routing_key="q")])
    transport.consume(["q"], 1)
    transport.nack(transport.receive(1), requeue=False)
    assert transport.queue_state("q").ready == 0


def test_requeued_keeps_its_place(transport: MemoryTransport) -> None:
    transport.declare(QueueSpec("q"))
    transport.publish([Message(body, routing_key="q") for body in (b"a", b"b", b"c")])
    transport.consume(["q"], 2)
    transport.nack(transport.receive(1), requeue=True)
    assert _take(transport, "q") == [b"a", b"b", b"c"]
