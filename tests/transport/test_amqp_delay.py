"""Delays: which bucket, where a message goes from there, and that it gets there when it should."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.codec import Delivery, Message
from engine.errors import Unroutable
from engine.model import BindingSpec, ExchangeSpec, QueueSpec
from engine.transport.amqp import AmqpTransport
from engine.transport.amqp_delay import (
    BUCKETS_MS,
    DUE_HEADER,
    EXPIRES_HEADER,
    arrived,
    bucket_ms,
    bucket_queue,
    delayed,
)
from tests.transport.amqp_support import opened, take, text
from tools.brokers import RabbitMQ


def test_the_series_of_buckets() -> None:
    assert BUCKETS_MS[:5] == (10, 20, 50, 100, 200)
    assert BUCKETS_MS[-3:] == (20_000_000, 50_000_000, 86_400_000)
    assert list(BUCKETS_MS) == sorted(BUCKETS_MS)


@given(st.floats(0.01, 1e7))
def test_a_bucket_is_never_too_long_and_seldom_short(remaining_s: float) -> None:
    wait_ms = bucket_ms(remaining_s)
    assert wait_ms <= remaining_s * 1000
    assert wait_ms == 86_400_000 or wait_ms * 2.5 >= remaining_s * 1000


def test_too_little_for_any_bucket() -> None:
    assert bucket_ms(0.0099) == 0


def test_a_bucket_per_exchange_and_type() -> None:
    assert bucket_queue(500, "").name == "engine.delay.500"
    assert bucket_queue(500, "").arguments == {"x-message-ttl": 500, "x-dead-letter-exchange": ""}
    other = bucket_queue(500, "orders", "quorum")
    assert other.name == "engine.delay.quorum.500.orders"
    assert other.arguments["x-dead-letter-strategy"] == "at-least-once"
    assert other.arguments["x-overflow"] == "reject-publish"


def test_a_delayed_message_is_the_same_but_for_its_marks() -> None:
    message = Message(
        b"body",
        routing_key="q",
        headers={"a": 1, "x-death": [{}]},
        priority=3,
        correlation_id="c",
        due_at=100.0,
    )
    sent = delayed(message, 100.0, bucket_queue(500, ""), 98.0)
    assert (sent.exchange, sent.routing_key) == ("engine.delay.500", "q")
    assert sent.headers == {"a": 1, DUE_HEADER: 100.0}
    assert (sent.body, sent.priority, sent.correlation_id, sent.due_at) == (b"body", 3, "c", None)


def test_its_own_expiry_does_not_end_a_delay() -> None:
    sent = delayed(Message(expiration_ms=2000), 100.0, None, 90.0)
    assert sent.expiration_ms is None
    assert sent.headers == {DUE_HEADER: 100.0, EXPIRES_HEADER: 92.0}


def test_the_marks_come_off() -> None:
    ours = Delivery(headers={DUE_HEADER: 1.0, "kept": 1, "x-death": [{"queue": "engine.delay.500"}]})
    arrived(ours)
    assert ours.headers == {"kept": 1}
    theirs = Delivery(headers={DUE_HEADER: 1.0, "x-death": [{"queue": "celery", "reason": "rejected"}]})
    arrived(theirs)
    assert "x-death" in theirs.headers


# -- on a broker ---------------------------------------------------------------------------------------


@pytest.fixture
def transport(rabbitmq: RabbitMQ, unique: str) -> Iterator[AmqpTransport]:
    with opened(rabbitmq.url) as transport:
        transport.declare(QueueSpec(unique))
        yield transport
        transport.delete_queue(unique)


@pytest.mark.amqp
@pytest.mark.parametrize("delay_s", [0.005, 0.03, 0.1, 0.27, 0.999])
def test_on_time(transport: AmqpTransport, unique: str, delay_s: float) -> None:
    transport.consume([unique], 10)
    due_at = time.time() + delay_s
    assert transport.publish([text("x", unique, due_at=due_at)]) == [None]
    [delivery] = take(transport, 1)
    late_s = time.time() - due_at
    assert 0 <= late_s < 2
    assert delivery.headers == {}
    assert (delivery.exchange, delivery.routing_key, delivery.redelivered) == ("", unique, False)
    transport.ack([delivery])
    assert transport.queue_state(unique).ready == 0


@pytest.mark.amqp
def test_a_quorum_delay(rabbitmq: RabbitMQ, unique: str) -> None:
    with opened(rabbitmq.url, extra={"delay_queue_type": "quorum"}) as transport:
        transport.declare(QueueSpec(unique, arguments={"x-queue-type": "quorum"}))
        transport.consume([unique], 10)
        due_at = time.time() + 0.6
        assert transport.publish([text("x", unique, due_at=due_at)]) == [None]
        assert take(transport, 1)[0].body == b"x"
        assert time.time() >= due_at
        transport.delete_queue(unique)


@pytest.mark.amqp
def test_to_another_exchange(transport: AmqpTransport, unique: str) -> None:
    """Every queue bound there gets it, and one that gets it early parks it for itself alone."""
    exchange = ExchangeSpec(f"{unique}-ex", "topic", durable=False, auto_delete=True)
    names = [f"{unique}-{number}" for number in range(2)]
    for name in names:
        transport.declare(QueueSpec(name, bindings=(BindingSpec(exchange, "task.#"),)))
    due_at = time.time() + 0.7
    message = Message(b"x", exchange=exchange.name, routing_key="task.a", due_at=due_at)
    assert transport.publish([message]) == [None]
    transport.consume(names, 10)
    both = take(transport, 2)
    assert time.time() >= due_at
    assert {delivery.queue for delivery in both} == set(names)
    transport.ack(both)
    assert transport.receive(0.2) == []
    for name in (*names, f"engine.delay.500.{exchange.name}"):
        transport.delete_queue(name)


@pytest.mark.amqp
def test_nowhere_to_go_is_told_now(transport: AmqpTransport, unique: str) -> None:
    [outcome] = transport.publish([text("x", f"{unique}-none", due_at=time.time() + 60)])
    assert isinstance(outcome, Unroutable)
    assert f"{unique}-none" in str(outcome)


@pytest.mark.amqp
def test_expired_while_delayed(transport: AmqpTransport, unique: str) -> None:
    transport.consume([unique], 10)
    due_at = time.time() + 0.4
    messages = [text("stale", unique, due_at=due_at, expiration_ms=100), text("fresh", unique, due_at=due_at)]
    assert transport.publish(messages) == [None, None]
    [fresh] = take(transport, 1)
    assert fresh.body == b"fresh"
    transport.ack([fresh])
    assert transport.receive(0.2) == []
    assert transport.queue_state(unique).ready == 0


@pytest.mark.amqp
def test_many_come_in_the_order_they_are_due(transport: AmqpTransport, unique: str) -> None:
    transport.consume([unique], 100)
    now = time.time()
    transport.publish([text(f"{at}", unique, due_at=now + at / 100) for at in (90, 10, 50, 70, 30)])
    taken = take(transport, 5)
    assert [delivery.body for delivery in taken] == [b"10", b"30", b"50", b"70", b"90"]
    transport.ack(taken)
