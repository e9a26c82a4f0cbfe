"""Time: delayed messages, parked ones, and those that expire. Passing time is the subject here."""

from __future__ import annotations

import time

from engine.model import QueueSpec
from engine.transport import Transport
from tests.conformance.backends import Backend, bodies, publish, take, text, wait_until


def _pass(seconds: float) -> None:
    until = time.time() + seconds
    wait_until(lambda: time.time() > until, "time to pass")


def test_not_before_it_is_due(backend: Backend, transport: Transport, queue: QueueSpec) -> None:
    backend.needs("delays")
    transport.consume([queue.name], 10)
    due_at = time.time() + 1.2
    publish(transport, text("late", queue.name, due_at=due_at), text("now", queue.name))
    assert bodies(take(transport, 1)) == ["now"]
    [late] = take(transport, 1)
    arrived_at = time.time()
    assert late.body == b"late"
    assert arrived_at >= due_at
    assert arrived_at < due_at + 3
    assert late.redelivered is False
    transport.ack([late])


def test_delays_do_not_wait_for_each_other(backend: Backend, transport: Transport, queue: QueueSpec) -> None:
    backend.needs("delays")
    transport.consume([queue.name], 10)
    now = time.time()
    publish(
        transport,
        text("second", queue.name, due_at=now + 1.5),
        text("far", queue.name, due_at=now + 3600),
        text("first", queue.name, due_at=now + 0.6),
    )
    assert bodies(take(transport, 2)) == ["first", "second"]


def test_a_due_time_that_has_passed_is_now(transport: Transport, queue: QueueSpec) -> None:
    transport.consume([queue.name], 1)
    publish(transport, text("x", queue.name, due_at=time.time() - 100))
    assert bodies(take(transport, 1, deadline_s=3)) == ["x"]


def test_a_delayed_message_keeps_everything(backend: Backend, transport: Transport, queue: QueueSpec) -> None:
    backend.needs("delays")
    transport.consume([queue.name], 1)
    headers = {"task": "add", "nested": {"a": [1, None]}}
    message = text(
        "body", queue.name, due_at=time.time() + 0.3, headers=headers, correlation_id="c", reply_to="r"
    )
    publish(transport, message)
    [delivery] = take(transport, 1)
    assert delivery.body == b"body"
    assert {name: delivery.headers[name] for name in headers} == headers
    assert delivery.properties["correlation_id"] == "c"
    assert delivery.properties["reply_to"] == "r"
    assert delivery.queue == queue.name


def test_a_delayed_message_outlives_its_publisher(
    backend: Backend, transport: Transport, queue: QueueSpec
) -> None:
    backend.needs("delays")
    publisher = backend.open()
    publish(publisher, text("x", queue.name, due_at=time.time() + 0.5))
    publisher.close()
    transport.consume([queue.name], 1)
    assert bodies(take(transport, 1)) == ["x"]


def test_parked_comes_back_when_due(backend: Backend, transport: Transport, queue: QueueSpec) -> None:
    backend.needs("delays")
    publish(transport, text("a", queue.name, headers={"kept": "yes"}), text("b", queue.name))
    transport.consume([queue.name], 1)
    [first] = take(transport, 1)
    due_at = time.time() + 1.2
    transport.park(first, due_at)
    [second] = take(transport, 1)
    assert second.body == b"b"
    transport.ack([second])
    [again] = take(transport, 1)
    assert time.time() >= due_at
    assert again.body == b"a"
    assert again.header("kept") == "yes"
    transport.ack([again])
    assert transport.receive(0.1) == []


def test_parked_is_not_held(backend: Backend, queue: QueueSpec) -> None:
    """Another consumer gets it, when the one that parked it is gone."""
    backend.needs("delays")
    first = backend.open()
    publish(first, text("x", queue.name))
    first.consume([queue.name], 1)
    [delivery] = take(first, 1)
    first.park(delivery, time.time() + 0.5)
    first.close()
    second = backend.open()
    second.consume([queue.name], 1)
    assert bodies(take(second, 1)) == ["x"]


def test_an_expired_message_is_not_delivered(
    backend: Backend, transport: Transport, queue: QueueSpec
) -> None:
    backend.needs("expiration")
    publish(transport, text("stale", queue.name, expiration_ms=50))
    publish(transport, text("fresh", queue.name, expiration_ms=600_000))
    _pass(0.3)
    transport.consume([queue.name], 10)
    assert bodies(take(transport, 1)) == ["fresh"]
    assert transport.receive(0.1) == []
