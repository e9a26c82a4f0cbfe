"""Queues, exchanges and bindings."""

from __future__ import annotations

import logging

import pytest

from engine.codec import Message
from engine.errors import DeclareConflict, QueueNotFound
from engine.model import BindingSpec, ExchangeSpec, QueueSpec
from engine.transport import Transport
from tests.conformance.backends import Backend, bodies, publish, take, text, wait_ready, wait_until


def test_declaring_is_idempotent(transport: Transport, queue: QueueSpec) -> None:
    publish(transport, text("x", queue.name))
    transport.declare(queue)
    state = transport.declare(queue)
    assert state.name == queue.name
    assert wait_ready(transport, queue.name, 1).ready == 1


def test_state_of_a_queue(backend: Backend, transport: Transport, queue: QueueSpec) -> None:
    assert transport.queue_state(queue.name).ready == 0
    publish(transport, *(text(f"{number}", queue.name) for number in range(5)))
    wait_ready(transport, queue.name, 5)
    consumer = backend.open()
    consumer.consume([queue.name], 2)
    take(consumer, 2)
    state = wait_ready(transport, queue.name, 3)
    assert state.unacked in (None, 2)
    assert state.consumers in (None, 1)
    assert state.oldest_age_s is None or 0 <= state.oldest_age_s < 60


def test_state_of_an_unknown_queue(transport: Transport, unique: str) -> None:
    with pytest.raises(QueueNotFound, match=f"{unique}-none"):
        transport.queue_state(f"{unique}-none")


def test_purge_drops_what_is_ready(backend: Backend, transport: Transport, queue: QueueSpec) -> None:
    publish(transport, *(text(f"{number}", queue.name) for number in range(5)))
    wait_ready(transport, queue.name, 5)
    holder = backend.open()
    holder.consume([queue.name], 2)
    held = take(holder, 2)
    wait_ready(transport, queue.name, 3)
    assert transport.purge(queue.name) == 3
    assert wait_ready(transport, queue.name, 0).ready == 0
    holder.nack(held, requeue=True)
    assert len(take(holder, 2)) == 2


def test_purge_an_unknown_queue(transport: Transport, unique: str) -> None:
    with pytest.raises(QueueNotFound):
        transport.purge(f"{unique}-none")


def test_delete_a_queue(transport: Transport, queue: QueueSpec) -> None:
    publish(transport, text("a", queue.name), text("b", queue.name))
    wait_ready(transport, queue.name, 2)
    assert transport.delete_queue(queue.name) == 2
    assert transport.delete_queue(queue.name) == 0
    with pytest.raises(QueueNotFound):
        transport.queue_state(queue.name)
    transport.declare(queue)
    assert transport.queue_state(queue.name).ready == 0


def test_other_arguments_are_told(
    backend: Backend, transport: Transport, queue: QueueSpec, caplog: pytest.LogCaptureFixture
) -> None:
    """Used as it is with a warning, or refused with the way out; never silently."""
    changed = QueueSpec(queue.name, arguments={"x-message-ttl": 600_000})
    other = backend.open()
    with caplog.at_level(logging.WARNING, logger="engine"):
        try:
            other.declare(changed)
        except DeclareConflict as error:
            told = str(error)
        else:
            told = caplog.text
    if backend.name in ("amqp", "sqlite", "memory"):  # the others keep no arguments to compare with
        assert queue.name in told
    publish(other, text("x", queue.name))
    assert wait_ready(other, queue.name, 1).ready == 1


def test_an_exchange_of_another_type_conflicts(
    backend: Backend, transport: Transport, queue: QueueSpec
) -> None:
    backend.needs_exchange("topic")
    name = f"{queue.name}-exchange"
    transport.declare_exchange(ExchangeSpec(name, "direct"))
    transport.declare_exchange(ExchangeSpec(name, "direct"))
    with pytest.raises(DeclareConflict, match=name):
        transport.declare_exchange(ExchangeSpec(name, "topic"))
    publish(transport, text("after", queue.name))


def _bound(backend: Backend, transport: Transport, kind: str, keys: dict[str, str]) -> str:
    """An exchange of that type with one queue a key; its name."""
    backend.needs_exchange(kind)
    exchange = ExchangeSpec(f"{backend.unique}-{kind}", kind)
    for suffix, key in keys.items():
        transport.declare(backend.queue(suffix, bindings=(BindingSpec(exchange, key),)))
    return exchange.name


def _arrived(transport: Transport, queue: str, count: int) -> list[str]:
    transport.consume([queue], 100)
    arrived = take(transport, count)
    transport.ack(arrived)
    assert transport.receive(0.1) == []
    return sorted(bodies(arrived))


def test_direct(backend: Backend, transport: Transport) -> None:
    exchange = _bound(backend, transport, "direct", {"-red": "red", "-blue": "blue", "-red2": "red"})
    publish(transport, Message(b"r", exchange=exchange, routing_key="red"))
    publish(transport, Message(b"b", exchange=exchange, routing_key="blue"))
    assert _arrived(transport, f"{backend.unique}-red", 1) == ["r"]
    assert _arrived(transport, f"{backend.unique}-red2", 1) == ["r"]
    assert _arrived(transport, f"{backend.unique}-blue", 1) == ["b"]


def test_a_delivery_names_exchange_and_key(backend: Backend, transport: Transport) -> None:
    exchange = _bound(backend, transport, "direct", {"-named": "key"})
    publish(transport, Message(b"x", exchange=exchange, routing_key="key"))
    transport.consume([f"{backend.unique}-named"], 1)
    [delivery] = take(transport, 1)
    assert (delivery.exchange, delivery.routing_key) == (exchange, "key")


def test_topic(backend: Backend, transport: Transport) -> None:
    """Not tried here: that # also matches no word at all. kombu's own brokers don't know that."""
    exchange = _bound(backend, transport, "topic", {"-one": "task.*", "-any": "task.#", "-all": "#"})
    for key in ("task.sent", "task.sent.twice", "worker.online"):
        publish(transport, Message(key.encode(), exchange=exchange, routing_key=key))
    assert _arrived(transport, f"{backend.unique}-one", 1) == ["task.sent"]
    assert _arrived(transport, f"{backend.unique}-any", 2) == ["task.sent", "task.sent.twice"]
    assert len(_arrived(transport, f"{backend.unique}-all", 3)) == 3


def test_fanout(backend: Backend, transport: Transport) -> None:
    """Consumers are there first: a broker may forget a fanout message that nobody was listening to."""
    exchange = _bound(backend, transport, "fanout", {"-a": "", "-b": ""})
    first, second = backend.open(), backend.open()
    first.consume([f"{backend.unique}-a"], 10)
    second.consume([f"{backend.unique}-b"], 10)
    assert first.receive(0.1) == second.receive(0.1) == []
    publish(transport, Message(b"news", exchange=exchange, routing_key="ignored"))
    for consumer in (first, second):
        arrived = take(consumer, 1)
        assert bodies(arrived) == ["news"]
        consumer.ack(arrived)


def test_headers(backend: Backend, transport: Transport) -> None:
    backend.needs_exchange("headers")
    exchange = ExchangeSpec(f"{backend.unique}-headers", "headers")
    wanted = {"-all": {"x-match": "all", "a": 1, "b": "2"}, "-any": {"x-match": "any", "a": 1, "b": "2"}}
    for suffix, arguments in wanted.items():
        transport.declare(backend.queue(suffix, bindings=(BindingSpec(exchange, "", arguments),)))
    for body, headers in (("both", {"a": 1, "b": "2"}), ("one", {"a": 1, "b": "3"}), ("none", {"c": 1})):
        message = Message(body.encode(), exchange=exchange.name, headers=headers)
        transport.publish([message], mandatory=False)
    assert _arrived(transport, f"{backend.unique}-all", 1) == ["both"]
    assert _arrived(transport, f"{backend.unique}-any", 2) == ["both", "one"]


def test_one_copy_for_two_bindings_that_match(backend: Backend, transport: Transport) -> None:
    backend.needs_exchange("topic")
    exchange = ExchangeSpec(f"{backend.unique}-twice", "topic")
    spec = backend.queue("-q", bindings=(BindingSpec(exchange, "a.*"), BindingSpec(exchange, "*.b")))
    transport.declare(spec)
    publish(transport, Message(b"x", exchange=exchange.name, routing_key="a.b"))
    wait_until(lambda: transport.queue_state(spec.name).ready > 0, "the message to be there")
    assert transport.queue_state(spec.name).ready == 1
