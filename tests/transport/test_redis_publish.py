"""Publishing to Redis: outcomes when it is full, gone or wrong, and what that does to claims."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.codec import Message
from engine.errors import (
    ConfigurationError,
    ConnectionFailed,
    ConnectionLost,
    DeclareConflict,
    PublishRefused,
    PublishUnknown,
    TransportClosed,
    Unroutable,
)
from engine.model import BindingSpec, ExchangeSpec, QueueSpec
from tests.transport.redis_support import Desk, bodies, desk_at, put, take, wait_until
from tools.brokers import Redis

pytestmark = pytest.mark.redis


@pytest.fixture
def desk(redis_server: Redis, unique: str) -> Iterator[Desk]:
    with desk_at(redis_server.url, unique) as made:
        yield made


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Redis]:
    """A Redis of this test's own, to be filled or killed."""
    server = Redis(tmp_path / "own", {"appendfsync": "always"})
    server.start()
    yield server
    server.stop()


def test_a_full_redis_refuses_publishes_but_lets_work_go_on(own: Redis, unique: str) -> None:
    with desk_at(own.url, unique) as desk:
        queue = desk.queue()
        transport = desk.open()
        put(transport, queue, *(f"{number}" for number in range(20)))
        transport.consume([queue], 5)
        held = take(transport, 5)
        desk.raw.config_set("maxmemory", "1kb")
        try:
            [outcome] = transport.publish([Message(b"x", routing_key=queue)])
            assert isinstance(outcome, PublishRefused)
            assert "OOM" in str(outcome)
            [parked] = transport.publish([Message(b"x", routing_key=queue, due_at=time.time() + 60)])
            assert isinstance(parked, PublishRefused)
            transport.ack(held)
            other = desk.open()  # a worker that starts now helps to empty it
            desk.queue(transport=other)
            other.consume([queue], 1)
            held = take(transport, 5)
            assert bodies(held) == ["5", "6", "7", "8", "9"]
            transport.nack(held[1:], requeue=True)
            transport.ack(held[:1])
            assert bodies(take(transport, 5)) == ["6", "7", "8", "9", "10"]
        finally:
            desk.raw.config_set("maxmemory", "0")
        assert transport.publish([Message(b"x", routing_key=queue)]) == [None]


def test_a_server_killed_under_a_publisher(own: Redis, unique: str) -> None:
    """Every message is confirmed and there afterwards, or reported."""
    with desk_at(own.url, unique) as desk:
        queue = desk.queue()
        transport = desk.open()
        confirmed = 0
        big = Message(b"x" * 1000, routing_key=queue)
        for round_ in range(50):
            if round_ == 20:
                os.kill(own.pid or 0, 9)
            try:
                outcomes = transport.publish([big] * 100)
            except (ConnectionLost, TransportClosed):
                break
            confirmed += outcomes.count(None)
            if outcomes.count(None) < 100:
                assert all(outcome is None or isinstance(outcome, PublishUnknown) for outcome in outcomes)
        assert not transport.connected
        with pytest.raises(TransportClosed):
            transport.publish([big])
        with pytest.raises(ConnectionFailed):
            transport.reconnect()
        own._reap(10)
        own.start()
        transport.reconnect()
        assert transport.queue_state(queue).ready >= confirmed >= 2000


def test_claims_outlive_a_restarted_server(own: Redis, unique: str) -> None:
    with desk_at(own.url, unique) as desk:
        queue = desk.queue()
        transport = desk.open()
        put(transport, queue, *"abc")
        transport.consume([queue], 2)
        take(transport, 2)
        own.kill()
        own.start()
        with pytest.raises(ConnectionLost):
            transport.receive(5)
        with pytest.raises(TransportClosed):
            transport.receive(5)
        transport.reconnect()
        held = take(transport, 2)
        assert bodies(held) == ["a", "b"]
        assert all(delivery.redelivered for delivery in held)
        transport.ack(held)
        assert bodies(take(transport, 1)) == ["c"]


def test_a_frozen_server_is_noticed(own: Redis, unique: str) -> None:

    with desk_at(own.url, unique) as desk:
        queue = desk.queue()
        transport = desk.open(extra={"socket_timeout": 1.0})
        transport.consume([queue], 1)
        own.signal(signal.SIGSTOP)
        try:
            started_mono_s = time.monotonic()
            with pytest.raises(ConnectionLost, match="no answer in time"):
                take(transport, 1)
            assert time.monotonic() - started_mono_s < 4
            with pytest.raises(ConnectionFailed):
                desk.open(connect_timeout=0.5)
        finally:
            own.signal(signal.SIGCONT)


def test_unroutable_names_what_is_missing(desk: Desk) -> None:
    transport = desk.open()
    exchange = f"{desk.unique}-x"
    desk.queue(bindings=(BindingSpec(ExchangeSpec(exchange), "key"),))
    wrong, nowhere = transport.publish(
        [Message(b"", exchange=exchange, routing_key="other"), Message(b"", routing_key=f"{desk.unique}-no")]
    )
    assert isinstance(wrong, Unroutable)
    assert exchange in str(wrong)
    assert isinstance(nowhere, Unroutable)
    assert not desk.raw.exists(f"{desk.unique}-no")


def test_a_queue_deleted_elsewhere_is_missed_soon(desk: Desk) -> None:
    first, second = desk.open(), desk.open()
    queue = desk.queue(transport=first)
    put(first, queue, "x")
    second.delete_queue(queue)

    def refused() -> bool:
        [outcome] = first.publish([Message(b"x", routing_key=queue)])
        second.delete_queue(queue)
        return isinstance(outcome, Unroutable)

    wait_until(refused, "the deleted queue to be missed")


def test_deleting_takes_bindings_and_delayed_messages(desk: Desk) -> None:
    transport = desk.open()
    exchange = f"{desk.unique}-x"
    queue = desk.queue(bindings=(BindingSpec(ExchangeSpec(exchange), "key"),))
    put(transport, queue, "later", due_at=time.time() + 1000)
    put(transport, queue, "now")
    state = transport.queue_state(queue)
    assert (state.ready, state.delayed) == (1, 1)
    before = desk.raw.hlen("unacked")
    assert transport.delete_queue(queue) == 2
    assert desk.raw.hlen("unacked") == before - 1
    assert not desk.raw.exists(f"_kombu.binding.{exchange}", f"_kombu.binding_permanent.{exchange}")
    desk.raw.hdel("engine.exchanges", exchange)


def test_a_fanout_message_cannot_wait(desk: Desk) -> None:
    transport = desk.open()
    exchange = ExchangeSpec(f"{desk.unique}-fan", "fanout")
    transport.declare_exchange(exchange)
    [late] = transport.publish([Message(b"x", exchange=exchange.name, due_at=time.time() + 9)])
    assert isinstance(late, PublishRefused)
    [unheard] = transport.publish([Message(b"x", exchange=exchange.name)])
    assert isinstance(unheard, Unroutable)
    assert transport.publish([Message(b"x", exchange=exchange.name)], mandatory=False) == [None]
    with pytest.raises(DeclareConflict, match="fanout"):
        desk.open().declare_exchange(ExchangeSpec(exchange.name, "direct"))
    desk.raw.hdel("engine.exchanges", exchange.name)


def test_a_large_batch_is_split_and_keeps_its_order(desk: Desk) -> None:
    queue = desk.queue()
    transport = desk.open()
    put(transport, queue, *(f"{number}" for number in range(2500)))
    transport.consume([queue], 0)
    assert [int(body) for body in bodies(take(transport, 2500))] == list(range(2500))


def test_many_due_at_once_come_in_order(desk: Desk) -> None:
    queue = desk.queue()
    transport = desk.open()
    due_at = time.time() + 0.3
    late = [Message(b"%d" % n, routing_key=queue, due_at=due_at + n / 1e6) for n in range(1200)]
    assert transport.publish(late) == [None] * 1200
    wait_until(lambda: time.time() > due_at + 0.1, "all to be due")
    transport.consume([queue], 100)
    first = take(transport, 1)
    assert first[0].body == b"0"
    held = first + take(transport, 100 - len(first))
    transport.nack(held, requeue=True)
    transport.consume([queue], 0)
    assert len(take(transport, 1200)) == 1200
    assert transport.queue_state(queue).delayed == 0


def test_names_that_cannot_be_kept_are_refused(desk: Desk) -> None:
    transport = desk.open()
    with pytest.raises(ConfigurationError, match="quotes"):
        transport.declare(QueueSpec('bad"name'))
    with pytest.raises(ConfigurationError, match="headers"):
        transport.declare_exchange(ExchangeSpec("x", "headers"))


def test_a_queue_name_may_be_any_text(desk: Desk) -> None:
    queue = desk.queue("-größe \\ ünd 雪 %s]")
    transport = desk.open()
    put(transport, queue, "x")
    transport.consume([queue], 1)
    [held] = take(transport, 1)
    assert held.queue == queue
    transport.nack([held], requeue=True)
    [again] = take(transport, 1)
    transport.park(again, time.time() + 0.2)
    [third] = take(transport, 1)
    assert third.queue == queue
    transport.ack([third])


def test_a_binding_made_just_now_is_found(desk: Desk) -> None:
    """What is believed of an exchange may be older than the binding that a message is for."""
    exchange = ExchangeSpec(f"{desk.unique}-direct", "direct")
    first = desk.queue("-1", bindings=(BindingSpec(exchange, "first"),))
    publisher = desk.open()
    assert publisher.publish([Message(b"1", exchange=exchange.name, routing_key="first")]) == [None]
    second = desk.queue("-2", transport=desk.open(), bindings=(BindingSpec(exchange, "second"),))
    assert publisher.publish([Message(b"2", exchange=exchange.name, routing_key="second")]) == [None]
    assert publisher.queue_state(first).ready == publisher.queue_state(second).ready == 1
    desk.raw.hdel("engine.exchanges", exchange.name)
