"""Fanout exchanges on Redis, shared with kombu: PUBLISH on its topics, heard by both."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import kombu
import pytest

from engine.codec import Message
from engine.model import BindingSpec, ExchangeSpec
from tests.transport.redis_support import Desk, bodies, desk_at, put, take
from tools.brokers import Redis

pytestmark = [pytest.mark.redis, pytest.mark.interop]


@pytest.fixture
def desk(redis_server: Redis, unique: str) -> Iterator[Desk]:
    with desk_at(redis_server.url, unique) as made:
        yield made


def test_kombu_hears_what_we_broadcast(desk: Desk) -> None:
    exchange = kombu.Exchange(f"{desk.unique}-fan", "fanout")
    ours = desk.queue("-ours", bindings=(BindingSpec(ExchangeSpec(exchange.name, "fanout")),))
    transport = desk.open()
    transport.consume([ours], 10)
    heard: list[Any] = []
    with kombu.Connection(desk.url) as connection:
        queue = kombu.Queue(f"{desk.unique}-theirs", exchange, auto_delete=True)
        with kombu.Consumer(
            connection.channel(), [queue], callbacks=[lambda b, m: heard.append(b)], no_ack=True
        ):
            before = _listeners(desk)
            _drain(connection, lambda: _listeners(desk) > before)
            assert transport.publish([Message(b'"news"', exchange=exchange.name)]) == [None]
            _drain(connection, lambda: bool(heard))
            kombu.Producer(connection, exchange).publish("from kombu")
    assert heard[0] == "news"
    assert bodies(take(transport, 2)) == ['"news"', "from kombu"]


def _listeners(desk: Desk) -> int:
    return sum(client["psub"] != "0" for client in desk.raw.client_list())


def _drain(connection: Any, until: Callable[[], bool]) -> None:
    deadline_mono_s = time.monotonic() + 10
    while not until() and time.monotonic() < deadline_mono_s:
        try:
            connection.drain_events(timeout=0.1)
        except TimeoutError:
            continue


def test_a_cancelled_queue_hears_no_more(desk: Desk) -> None:
    exchange = ExchangeSpec(f"{desk.unique}-fan", "fanout")
    queue = desk.queue(bindings=(BindingSpec(exchange),))
    transport, publisher = desk.open(), desk.open()
    transport.consume([queue], 10)
    news = Message(b"news", exchange=exchange.name, routing_key="any.key")
    assert publisher.publish([news]) == [None]
    [heard] = take(transport, 1)
    assert (heard.queue, heard.routing_key) == (queue, "any.key")
    transport.ack([heard])
    transport.cancel()
    publisher.publish([news], mandatory=False)
    transport.consume([queue], 10)
    put(publisher, queue, "straight to the queue")
    assert bodies(take(transport, 1)) == ["straight to the queue"]
    desk.raw.hdel("engine.exchanges", exchange.name)


def test_a_reconnected_transport_listens_again(desk: Desk) -> None:
    exchange = ExchangeSpec(f"{desk.unique}-fan", "fanout")
    queue = desk.queue(bindings=(BindingSpec(exchange, "a.#"),))
    transport, publisher = desk.open(), desk.open()
    transport.consume([queue], 10)
    transport.reconnect()
    assert publisher.publish([Message(b"1", exchange=exchange.name, routing_key="a.b")]) == [None]
    publisher.publish([Message(b"2", exchange=exchange.name, routing_key="b.a")], mandatory=False)
    assert bodies(take(transport, 1)) == ["1"]
    assert transport.receive(0.1) == []
    desk.raw.hdel("engine.exchanges", exchange.name)
