"""Consuming: prefetch, several queues, waking up, cancelling, taking a single message."""

from __future__ import annotations

import os
import threading
import time

import pytest

from engine.errors import QueueNotFound
from engine.model import QueueSpec
from engine.transport import Transport
from tests.conformance.backends import Backend, bodies, publish, take, text, wait_ready


def test_an_empty_queue_gives_nothing_at_the_timeout(transport: Transport, queue: QueueSpec) -> None:
    transport.consume([queue.name], 1)
    started_mono_s = time.monotonic()
    assert transport.receive(0.3) == []
    assert 0.25 < time.monotonic() - started_mono_s < 3


def test_a_timeout_of_zero_does_not_wait(transport: Transport, queue: QueueSpec) -> None:
    transport.consume([queue.name], 1)
    started_mono_s = time.monotonic()
    assert transport.receive(0) == []
    assert time.monotonic() - started_mono_s < 1


@pytest.mark.over_tls
def test_no_more_than_the_prefetch(transport: Transport, queue: QueueSpec) -> None:
    publish(transport, *(text(f"{number}", queue.name) for number in range(10)))
    wait_ready(transport, queue.name, 10)
    transport.consume([queue.name], 3)
    held = take(transport, 3)
    assert len(held) == 3
    assert transport.receive(0.2) == []
    transport.ack(held[:2])
    assert bodies(take(transport, 2)) == ["3", "4"]


def test_no_more_than_the_limit(transport: Transport, queue: QueueSpec) -> None:
    publish(transport, *(text(f"{number}", queue.name) for number in range(5)))
    wait_ready(transport, queue.name, 5)
    transport.consume([queue.name], 10)
    taken = []
    while len(taken) < 5:
        some = transport.receive(5, limit=2)
        assert 1 <= len(some) <= 2
        taken += some
    assert bodies(taken) == ["0", "1", "2", "3", "4"]


def test_consuming_again_replaces_queues_and_prefetch(backend: Backend, transport: Transport) -> None:
    first, second = backend.queue("-1"), backend.queue("-2")
    transport.declare(first)
    transport.declare(second)
    transport.consume([first.name], 1)
    transport.consume([second.name], 2)
    publish(transport, *(text(body, second.name) for body in "abc"))
    publish(transport, text("x", first.name))
    assert bodies(take(transport, 2)) == ["a", "b"]
    assert transport.receive(0.2) == []
    assert wait_ready(transport, first.name, 1).ready == 1


def test_several_queues(backend: Backend, transport: Transport) -> None:
    specs = [backend.queue(f"-{number}") for number in range(3)]
    for spec in specs:
        transport.declare(spec)
        publish(transport, text(spec.name, spec.name))
    transport.consume([spec.name for spec in specs], 10)
    taken = take(transport, 3)
    assert {delivery.queue for delivery in taken} == {spec.name for spec in specs}
    assert all(delivery.body.decode() == delivery.queue for delivery in taken)


def test_consuming_an_unknown_queue(transport: Transport, unique: str) -> None:
    with pytest.raises(QueueNotFound, match=f"{unique}-none"):
        transport.consume([f"{unique}-none"], 1)


def test_after_an_unknown_queue_the_transport_works(
    transport: Transport, queue: QueueSpec, unique: str
) -> None:
    with pytest.raises(QueueNotFound):
        transport.consume([f"{unique}-none"], 1)
    publish(transport, text("x", queue.name))
    transport.consume([queue.name], 1)
    assert bodies(take(transport, 1)) == ["x"]


@pytest.mark.over_tls
def test_waiting_is_ended_by_a_publish(backend: Backend, transport: Transport, queue: QueueSpec) -> None:
    transport.consume([queue.name], 1)
    other = backend.open()
    timer = threading.Timer(0.1, lambda: publish(other, text("x", queue.name)))
    timer.start()
    started_mono_s = time.monotonic()
    taken = transport.receive(10)
    assert bodies(taken) == ["x"]
    assert time.monotonic() - started_mono_s < 5
    timer.join()


@pytest.mark.over_tls
def test_waiting_is_ended_by_a_wake_fd(transport: Transport, queue: QueueSpec) -> None:
    transport.consume([queue.name], 1)
    reading, writing = os.pipe()
    try:
        transport.wake_fds = (reading,)
        timer = threading.Timer(0.1, os.write, (writing, b"!"))
        timer.start()
        started_mono_s = time.monotonic()
        assert transport.receive(10) == []
        assert time.monotonic() - started_mono_s < 5
        timer.join()
        os.read(reading, 1)
        publish(transport, text("x", queue.name))
        assert bodies(take(transport, 1)) == ["x"]
    finally:
        transport.wake_fds = ()
        os.close(reading)
        os.close(writing)


def test_cancel_takes_no_more_and_loses_nothing(
    backend: Backend, transport: Transport, queue: QueueSpec
) -> None:
    publish(transport, *(text(f"{number}", queue.name) for number in range(6)))
    wait_ready(transport, queue.name, 6)
    transport.consume([queue.name], 4)
    held = transport.receive(5, limit=1)
    transport.cancel()
    publish(transport, text("after", queue.name))
    while some := transport.receive(0.2):
        held += some
    assert len(held) <= 4
    transport.ack(held)
    other = backend.open()
    other.consume([queue.name], 20)
    rest = take(other, 7 - len(held))
    assert sorted(bodies(held) + bodies(rest)) == ["0", "1", "2", "3", "4", "5", "after"]


def test_cancelled_can_consume_again(transport: Transport, queue: QueueSpec) -> None:
    transport.consume([queue.name], 2)
    transport.cancel()
    transport.consume([queue.name], 2)
    publish(transport, text("x", queue.name))
    assert bodies(take(transport, 1)) == ["x"]


def test_get_one(transport: Transport, queue: QueueSpec) -> None:
    assert transport.get(queue.name) is None
    publish(transport, text("a", queue.name), text("b", queue.name))
    first, second = transport.get(queue.name), transport.get(queue.name)
    assert first is not None
    assert second is not None
    assert (first.body, second.body) == (b"a", b"b")
    transport.ack([first])
    transport.nack([second], requeue=True)
    assert wait_ready(transport, queue.name, 1).ready == 1


def test_get_from_an_unknown_queue(transport: Transport, unique: str) -> None:
    with pytest.raises(QueueNotFound, match=f"{unique}-none"):
        transport.get(f"{unique}-none")
