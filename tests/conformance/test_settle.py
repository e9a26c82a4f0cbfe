"""Acknowledging and giving back: a message is settled once, and one not settled comes back."""

from __future__ import annotations

import time

import pytest

from engine.codec import Delivery
from engine.model import QueueSpec
from engine.transport import Transport
from tests.conformance.backends import Backend, bodies, publish, take, text, wait_ready, wait_until


def _count(delivery: Delivery) -> int:
    assert delivery.delivery_count is not None
    return delivery.delivery_count


@pytest.mark.over_tls
def test_acked_is_gone(backend: Backend, transport: Transport, queue: QueueSpec) -> None:
    publish(transport, *(text(f"{number}", queue.name) for number in range(4)))
    transport.consume([queue.name], 10)
    held = take(transport, 4)
    transport.ack([held[2], held[0]])
    transport.ack([])
    transport.close()
    other = backend.open()
    other.consume([queue.name], 10)
    assert sorted(bodies(take(other, 2))) == ["1", "3"]
    assert other.receive(0.1) == []


def test_acked_twice_is_harmless(transport: Transport, queue: QueueSpec) -> None:
    publish(transport, text("a", queue.name))
    transport.consume([queue.name], 1)
    [delivery] = take(transport, 1)
    transport.ack([delivery])
    publish(transport, text("b", queue.name))
    assert bodies(take(transport, 1)) == ["b"]


@pytest.mark.over_tls
def test_requeued_comes_again(backend: Backend, transport: Transport, queue: QueueSpec) -> None:
    publish(transport, text("a", queue.name, headers={"kept": 1}, correlation_id="c"))
    transport.consume([queue.name], 1)
    [first] = take(transport, 1)
    transport.nack([first], requeue=True)
    [second] = take(transport, 1)
    assert second.body == b"a"
    assert second.headers == {"kept": 1}
    assert second.properties["correlation_id"] == "c"
    assert second.redelivered is True
    if backend.capabilities.counts_deliveries:
        assert (_count(first), _count(second)) == (0, 1)
    transport.ack([second])


def test_requeued_loses_none(transport: Transport, queue: QueueSpec) -> None:
    publish(transport, *(text(f"{number}", queue.name) for number in range(5)))
    wait_ready(transport, queue.name, 5)
    transport.consume([queue.name], 5)
    held = take(transport, 5)
    transport.nack(held[1:4], requeue=True)
    again = take(transport, 3)
    assert sorted(bodies(again)) == ["1", "2", "3"]
    assert all(delivery.redelivered for delivery in again)


def test_rejected_is_gone(transport: Transport, queue: QueueSpec) -> None:
    publish(transport, text("a", queue.name), text("b", queue.name))
    transport.consume([queue.name], 2)
    held = take(transport, 2)
    transport.nack(held[:1], requeue=False)
    transport.nack(held[1:], requeue=True)
    assert bodies(take(transport, 1)) == ["b"]
    assert transport.receive(0.1) == []


def test_closing_gives_back(backend: Backend, queue: QueueSpec) -> None:
    first = backend.open()
    publish(first, text("a", queue.name))
    first.consume([queue.name], 1)
    take(first, 1)
    first.close()
    second = backend.open()
    second.consume([queue.name], 1)
    [delivery] = take(second, 1)
    assert delivery.redelivered is True


def test_a_dead_consumer_s_messages_come_back(backend: Backend, queue: QueueSpec) -> None:
    dead = backend.open_mortal()
    publish(dead, *(text(f"{number}", queue.name) for number in range(3)))
    dead.consume([queue.name], 3)
    take(dead, 3)
    dead.abandon()
    second = backend.open_mortal()
    second.consume([queue.name], 10)
    held = take(second, 3)
    assert sorted(bodies(held)) == ["0", "1", "2"]
    assert all(delivery.redelivered for delivery in held)
    second.ack(held)


def test_an_ack_of_an_old_epoch_is_dropped(backend: Backend, queue: QueueSpec) -> None:
    transport = backend.open_mortal()
    publish(transport, text("a", queue.name))
    transport.consume([queue.name], 1)
    [old] = take(transport, 1)
    transport.reconnect()
    assert transport.epoch == old.epoch + 1
    [new] = take(transport, 1)
    assert new.epoch == transport.epoch
    transport.ack([old])
    transport.nack([old], requeue=False)
    transport.nack([new], requeue=True)
    [again] = take(transport, 1)
    assert again.body == b"a"
    assert again.redelivered is True
    transport.ack([again])


@pytest.mark.over_tls
def test_a_live_consumer_keeps_its_messages(backend: Backend, queue: QueueSpec) -> None:
    first, second = backend.open(), backend.open()
    publish(first, text("a", queue.name))
    first.consume([queue.name], 1)
    [held] = take(first, 1)
    second.consume([queue.name], 1)
    for _ in range(3):
        second.recover()
        assert second.receive(0.1) == []
    first.ack([held])
    assert second.receive(0.1) == []


@pytest.mark.over_tls
def test_two_consumers_share_without_overlap(backend: Backend, queue: QueueSpec) -> None:
    first, second = backend.open(), backend.open()
    publish(first, *(text(f"{number}", queue.name) for number in range(40)))
    first.consume([queue.name], 2)
    second.consume([queue.name], 2)
    seen: list[str] = []
    deadline_mono_s = time.monotonic() + 15
    while len(seen) < 40 and time.monotonic() < deadline_mono_s:
        for consumer in (first, second):
            held = consumer.receive(0.05)
            seen += bodies(held)
            consumer.ack(held)
    assert sorted(seen, key=int) == [f"{number}" for number in range(40)]


def test_everything_acked_leaves_nothing(backend: Backend, transport: Transport, queue: QueueSpec) -> None:
    publish(transport, *(text(f"{number}", queue.name) for number in range(20)))
    transport.consume([queue.name], 20)
    transport.ack(take(transport, 20))
    wait_until(lambda: not transport.queue_state(queue.name).unacked, "nothing unacked")
    assert wait_ready(transport, queue.name, 0).ready == 0
