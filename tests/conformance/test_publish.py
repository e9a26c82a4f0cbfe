"""Publishing: what is accepted, what is refused, and that each message is told apart."""

from __future__ import annotations

import pytest

from engine.codec import Message
from engine.errors import MessageTooLarge, QueueNotFound, TransportClosed, Unroutable
from engine.model import QueueSpec
from engine.transport import Transport
from tests.conformance.backends import Backend, bodies, publish, take, text, wait_ready


def test_published_arrives(transport: Transport, queue: QueueSpec) -> None:
    publish(transport, text("hello", queue.name))
    transport.consume([queue.name], 10)
    [delivery] = take(transport, 1)
    assert delivery.body == b"hello"
    assert delivery.routing_key == queue.name
    assert delivery.exchange == ""
    assert delivery.queue == queue.name
    assert delivery.redelivered is False
    transport.ack([delivery])


def test_nothing_published_is_nothing(transport: Transport) -> None:
    assert transport.publish([]) == []


@pytest.mark.over_tls
def test_a_batch_keeps_its_order(transport: Transport, queue: QueueSpec) -> None:
    publish(transport, *(text(f"{number}", queue.name) for number in range(250)))
    wait_ready(transport, queue.name, 250)
    transport.consume([queue.name], 500)
    assert bodies(take(transport, 250)) == [f"{number}" for number in range(250)]


@pytest.mark.parametrize("confirm", [True, False])
def test_confirmed_or_not_it_arrives(transport: Transport, queue: QueueSpec, confirm: bool) -> None:
    assert transport.publish([text("x", queue.name)], confirm=confirm) == [None]
    transport.consume([queue.name], 1)
    assert bodies(take(transport, 1)) == ["x"]


def test_confirmed_is_there_at_once(backend: Backend, transport: Transport, queue: QueueSpec) -> None:
    backend.needs("confirms")
    publish(transport, text("x", queue.name))
    other = backend.open()
    delivery = other.get(queue.name)
    assert delivery is not None
    assert delivery.body == b"x"
    other.ack([delivery])


def test_each_message_has_its_own_outcome(backend: Backend, transport: Transport, queue: QueueSpec) -> None:
    backend.needs("mandatory")
    nowhere = f"{queue.name}-nowhere"
    outcomes = transport.publish(
        [text("a", queue.name), text("b", nowhere), text("c", queue.name), text("d", nowhere)]
    )
    assert outcomes[0] is None
    assert outcomes[2] is None
    assert isinstance(outcomes[1], Unroutable)
    assert isinstance(outcomes[3], Unroutable)
    assert nowhere in str(outcomes[1])
    transport.consume([queue.name], 10)
    assert bodies(take(transport, 2)) == ["a", "c"]


def test_unroutable_is_not_told_when_nobody_asked(transport: Transport, queue: QueueSpec) -> None:
    outcomes = transport.publish([text("x", f"{queue.name}-nowhere")], mandatory=False)
    assert outcomes == [None]


def test_an_unknown_exchange_refuses_the_message(
    backend: Backend, transport: Transport, queue: QueueSpec
) -> None:
    backend.needs("mandatory")
    lost = Message(b"x", exchange=f"{queue.name}-missing", routing_key="key")
    [outcome] = transport.publish([lost])
    assert isinstance(outcome, (Unroutable, QueueNotFound))
    publish(transport, text("after", queue.name))


def test_too_large_is_refused_alone(backend: Backend, transport: Transport, queue: QueueSpec) -> None:
    small = backend.open(max_message_size=1000)
    outcomes = small.publish([text("a" * 1001, queue.name), text("b", queue.name)])
    assert isinstance(outcomes[0], MessageTooLarge)
    assert "1001" in str(outcomes[0])
    assert outcomes[1] is None
    transport.consume([queue.name], 10)
    assert bodies(take(transport, 1)) == ["b"]


@pytest.mark.over_tls
@pytest.mark.parametrize("size", [0, 1, 4096, 1_500_000])
def test_bodies_are_byte_exact(transport: Transport, queue: QueueSpec, size: int) -> None:
    body = (bytes(range(256)) * (size // 256 + 1))[:size]
    message = Message(
        body,
        routing_key=queue.name,
        content_type="application/octet-stream",
        content_encoding="binary",
    )
    publish(transport, message)
    transport.consume([queue.name], 1)
    [delivery] = take(transport, 1)
    assert delivery.body == body
    assert delivery.content_type == "application/octet-stream"
    assert delivery.content_encoding == "binary"


def test_priorities(backend: Backend, transport: Transport) -> None:
    backend.needs("priorities")
    spec = backend.queue("-prio", arguments={"x-max-priority": 10})
    transport.declare(spec)
    publish(transport, text("late", spec.name, priority=backend.least_urgent))
    publish(transport, text("late too", spec.name, priority=backend.least_urgent))
    publish(transport, text("soon", spec.name, priority=backend.most_urgent))
    publish(transport, text("soon too", spec.name, priority=backend.most_urgent))
    wait_ready(transport, spec.name, 4)
    taken = []
    transport.consume([spec.name], 1)
    for _ in range(4):
        [delivery] = take(transport, 1)
        taken.append(delivery)
        transport.ack([delivery])
    assert bodies(taken) == ["soon", "soon too", "late", "late too"]


def test_a_closed_transport_publishes_nothing(transport: Transport, queue: QueueSpec) -> None:
    transport.close()
    with pytest.raises(TransportClosed):
        transport.publish([text("x", queue.name)])


@pytest.mark.parametrize("confirm", [True, False])
def test_one_by_one_all_arrive_in_order(transport: Transport, queue: QueueSpec, confirm: bool) -> None:
    """Many, and each with a body, so that without confirms they fill whatever lies between."""
    count = 200 if confirm else 1500
    for number in range(count):
        message = text(f"{number} ".ljust(4000, "."), queue.name)
        assert transport.publish_one(message, confirm, True, 30.0) is None
    wait_ready(transport, queue.name, count)
    transport.consume([queue.name], count)
    assert [int(body.split()[0]) for body in bodies(take(transport, count))] == list(range(count))


def test_one_alone_has_its_outcome(backend: Backend, queue: QueueSpec) -> None:
    backend.needs("mandatory")
    small = backend.open(max_message_size=1000)
    assert small.publish_one(text("a", queue.name), True, True, 30.0) is None
    assert isinstance(small.publish_one(text("b", f"{queue.name}-nowhere"), True, True, 30.0), Unroutable)
    assert small.publish_one(text("c", f"{queue.name}-nowhere"), True, False, 30.0) is None
    assert isinstance(small.publish_one(text("d" * 1001, queue.name), False, True, 30.0), MessageTooLarge)
    assert small.publish_one(text("f", queue.name), False, True, 30.0) is None
    wait_ready(small, queue.name, 2)


def test_one_too_large_is_refused_on_a_warm_connection(backend: Backend, queue: QueueSpec) -> None:
    small = backend.open(max_message_size=1000)
    for confirm in (True, False, True, False):
        assert small.publish_one(text("a", queue.name), confirm, True, 30.0) is None
        outcome = small.publish_one(text("b" * 1001, queue.name), confirm, True, 30.0)
        assert isinstance(outcome, MessageTooLarge)
    wait_ready(small, queue.name, 4)
