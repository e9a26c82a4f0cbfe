"""Queues and exchanges that exist with other arguments: used as they are where that is safe, else refused."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from engine.errors import AccessRefused, DeclareConflict, QueueNotFound, TransportError
from engine.model import BindingSpec, ExchangeSpec, QueueSpec
from engine.transport.amqp import AmqpTransport
from tests.transport.amqp_support import opened, take, text
from tools.brokers import RabbitMQ

pytestmark = pytest.mark.amqp


@pytest.fixture
def transport(rabbitmq: RabbitMQ, unique: str) -> Iterator[AmqpTransport]:
    with opened(rabbitmq.url) as transport:
        yield transport
        transport.delete_queue(unique)


@pytest.mark.parametrize(
    ("existing", "wanted", "told"),
    [
        ({"x-max-priority": 10}, {}, ("x-max-priority 10", "no x-max-priority", "set x-max-priority to 10")),
        ({}, {"x-max-priority": 5}, ("no x-max-priority", "x-max-priority 5", "leave x-max-priority out")),
        ({"x-message-ttl": 1000}, {"x-message-ttl": 2000}, ("x-message-ttl 1000", "x-message-ttl 2000")),
        ({}, {"x-queue-type": "quorum"}, ("x-queue-type quorum", "leave")),
    ],
)
def test_other_arguments_are_used_with_one_warning(
    transport: AmqpTransport,
    unique: str,
    caplog: pytest.LogCaptureFixture,
    existing: dict[str, Any],
    wanted: dict[str, Any],
    told: tuple[str, ...],
) -> None:
    transport.declare(QueueSpec(unique, arguments=existing))
    transport.publish([text("kept", unique)])
    with caplog.at_level(logging.WARNING, logger="engine"):
        for _ in range(3):
            assert transport.declare(QueueSpec(unique, arguments=wanted)).ready == 1
    assert len(caplog.records) == 1
    assert all(word in caplog.text for word in (unique, *told))


def test_durable_where_transient_is_asked_for_is_safe(
    transport: AmqpTransport, unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    transport.declare(QueueSpec(unique))
    with caplog.at_level(logging.WARNING, logger="engine"):
        transport.declare(QueueSpec(unique, durable=False))
    assert "durable true" in caplog.text


def test_transient_where_durable_is_asked_for_is_refused(transport: AmqpTransport, unique: str) -> None:
    transport.declare(QueueSpec(unique, durable=False))
    with pytest.raises(DeclareConflict, match=rf"{unique}.*durable false.*restarts.*Delete the queue"):
        transport.declare(QueueSpec(unique))
    assert transport.queue_state(unique).ready == 0


def test_somebody_s_exclusive_queue_is_refused(
    rabbitmq: RabbitMQ, transport: AmqpTransport, unique: str
) -> None:
    with opened(rabbitmq.url) as owner:
        owner.declare(QueueSpec(unique, durable=False, exclusive=True))
        with pytest.raises(DeclareConflict, match="exclusive"):
            transport.declare(QueueSpec(unique))


def test_an_exclusive_queue_is_consumed_by_its_owner(transport: AmqpTransport, unique: str) -> None:
    transport.publish([], confirm=True)
    transport.declare(QueueSpec(unique, durable=False, exclusive=True))
    assert transport.publish([text("x", unique)]) == [None]
    transport.consume([unique], 1)
    assert take(transport, 1)[0].body == b"x"


def test_a_conflict_does_not_void_deliveries(transport: AmqpTransport, unique: str) -> None:
    """Refused declarations close a channel: not the one that consumes."""
    transport.declare(QueueSpec(unique))
    transport.publish([text("x", unique)])
    transport.consume([unique], 1)
    [held] = take(transport, 1)
    with pytest.raises(QueueNotFound):
        transport.queue_state(f"{unique}-none")
    transport.declare(QueueSpec(unique, arguments={"x-max-priority": 3}))
    assert transport.epoch == held.epoch
    transport.nack([held], requeue=True)
    assert take(transport, 1)[0].redelivered


def test_arguments_the_broker_does_not_take(transport: AmqpTransport, unique: str) -> None:
    with pytest.raises(TransportError, match="x-max-priority"):
        transport.declare(QueueSpec(unique, arguments={"x-max-priority": -1}))


def test_no_declare_only_looks(transport: AmqpTransport, unique: str) -> None:
    with pytest.raises(QueueNotFound, match=unique):
        transport.declare(QueueSpec(unique, no_declare=True))
    transport.declare(QueueSpec(unique))
    assert transport.declare(QueueSpec(unique, no_declare=True)).name == unique


def test_an_exchange_s_other_arguments_are_used(
    transport: AmqpTransport, unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    transport.declare_exchange(ExchangeSpec(unique, "topic", durable=False, auto_delete=True))
    bound = QueueSpec(unique, bindings=(BindingSpec(ExchangeSpec(unique, "topic"), "a.#"),))
    with caplog.at_level(logging.WARNING, logger="engine"):
        transport.declare(bound)
    assert "is used as it is" in caplog.text
    assert transport.publish([text("x", "a.b", exchange=unique)]) == [None]


def test_a_user_without_permission(rabbitmq: RabbitMQ, unique: str) -> None:
    rabbitmq.ctl("add_user", unique, "pw")
    rabbitmq.ctl("set_permissions", "-p", "/", unique, "^mine", "^mine", "^mine")
    try:
        with opened(f"amqp://{unique}:pw@127.0.0.1:{rabbitmq.port}//") as transport:
            with pytest.raises(AccessRefused, match=rf"{unique}-other.*permission"):
                transport.declare(QueueSpec(f"{unique}-other"))
            assert transport.connected
    finally:
        rabbitmq.ctl("delete_user", unique)
