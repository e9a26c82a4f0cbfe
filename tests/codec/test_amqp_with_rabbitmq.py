"""The codec alone on a bare socket to a real RabbitMQ: what is written is accepted and comes back."""

from __future__ import annotations

import copy
import socket
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from engine.codec import (
    PROTOCOL_HEADER,
    Delivery,
    FrameDecoder,
    Message,
    Method,
    Returned,
    encode_acks,
    encode_method,
    encode_nacks,
    encode_publish,
)
from tests.codec.amqp_values import FULL, naive_utc
from tools.brokers import RabbitMQ

pytestmark = pytest.mark.amqp

CAPABILITIES = {
    "capabilities": {"basic.nack": True, "publisher_confirms": True, "consumer_cancel_notify": True}
}


class Wire:
    """A socket, a decoder, and what has come but was not asked for yet."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.decoder = FrameDecoder()
        self.items: list[Any] = []

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def next(self) -> Any:
        while not self.items:
            data = self.socket.recv(65536)
            assert data, "RabbitMQ closed the connection"
            self.items += self.decoder.feed(data)
        return self.items.pop(0)

    def call(self, class_id: int, method_id: int, *args: Any, channel: int = 1) -> Any:
        """Send a method; the args of the answer, whose id is one higher."""
        self.send(encode_method(channel, class_id, method_id, args))
        answer = self.next()
        assert isinstance(answer, Method), answer
        assert (answer.channel, answer.class_id, answer.method_id) == (channel, class_id, method_id + 1), (
            answer
        )
        return answer.args


@pytest.fixture
def wire(rabbitmq: RabbitMQ) -> Iterator[Wire]:
    wire = Wire(rabbitmq.port)
    wire.send(PROTOCOL_HEADER)
    start = wire.next()
    assert (start.class_id, start.method_id, start.args[:2]) == (10, 10, (0, 9))
    assert start.args[2]["capabilities"]["publisher_confirms"] is True
    assert "PLAIN" in start.args[3].split()
    wire.send(encode_method(0, 10, 11, (CAPABILITIES, "PLAIN", b"\0guest\0guest", "en_US")))
    tune = wire.next()
    assert (tune.class_id, tune.method_id) == (10, 30)
    wire.send(encode_method(0, 10, 31, (tune.args[0], 4096, 0)))
    assert wire.call(10, 40, "/", "", False, channel=0) == ("",)
    assert wire.call(20, 10, "") == ("",)
    assert wire.call(85, 10, False) == ()
    yield wire
    assert wire.call(10, 50, 200, "bye", 0, 0, channel=0) == ()
    wire.socket.close()


@pytest.fixture
def queue(wire: Wire, unique: str) -> Iterator[str]:
    assert wire.call(50, 10, 0, unique, False, False, False, False, False, {"x-max-priority": 5}) == (
        unique,
        0,
        0,
    )
    yield unique
    wire.call(50, 40, 0, unique, False, False, False)


def publish(wire: Wire, queue: str, batch: list[Message]) -> None:
    """To the queue, through the default exchange, and wait for the confirms."""
    for message in batch:
        message.routing_key = queue
    wire.send(encode_publish(batch, frame_max=4096, mandatory=True))
    confirmed = 0
    while confirmed < len(batch):
        confirm = wire.next()
        assert isinstance(confirm, Method), confirm
        assert (confirm.class_id, confirm.method_id) == (60, 80)
        confirmed = confirm.args[0] if confirm.args[1] else confirmed + 1


def get(wire: Wire, queue: str) -> Any:
    wire.send(encode_method(1, 60, 70, (0, queue, False)))
    return wire.next()


def test_every_property_comes_back(wire: Wire, queue: str) -> None:
    full = copy.copy(FULL)
    full.exchange = ""
    batch = [full, Message(b"z" * 20_000), Message(b"", content_type=None, content_encoding=None)]
    publish(wire, queue, batch)
    for tag, message in enumerate(batch, 1):
        delivery = get(wire, queue)
        assert isinstance(delivery, Delivery)
        assert (delivery.tag, delivery.redelivered) == (tag, False)
        assert delivery.to_message() == message
    wire.send(encode_acks(1, [(1, False), (3, True)]))
    assert get(wire, queue).method_id == 72


def test_every_type_of_a_table_comes_back(wire: Wire, queue: str) -> None:
    headers: dict[str, Any] = {
        "none": None, "true": True, "false": False, "int": -5, "least": -(2**31), "long": 2**63 - 1,
        "longest": -(2**63), "float": 0.1, "text": "é\n", "bytes": b"\x00\xff", "price": Decimal("1.50"),
        "moment": naive_utc(2026, 1, 2, 3, 4, 5), "list": [1, "a", [None, {"deep": [True]}]],
        "table": {"k": {"k": {}}}, "é": "key",
    }  # fmt: skip
    publish(wire, queue, [Message(headers=headers)])
    delivery = get(wire, queue)
    assert delivery.headers == headers
    assert {name: type(value) for name, value in delivery.headers.items()} == {
        name: type(value) for name, value in headers.items()
    }
    publish(wire, queue, [delivery.to_message()])
    assert get(wire, queue).headers == headers


def test_what_cannot_be_routed_comes_back(wire: Wire, unique: str) -> None:
    wire.send(encode_publish([Message(b"body", headers={"a": 1}, routing_key=unique)], mandatory=True))
    returned = wire.next()
    assert isinstance(returned, Returned)
    assert (returned.reply_code, returned.reply_text, returned.routing_key) == (312, "NO_ROUTE", unique)
    assert returned.message == Message(b"body", headers={"a": 1}, routing_key=unique)
    assert wire.next().method_id == 80


def test_consuming_rejecting_and_purging(wire: Wire, queue: str) -> None:
    assert wire.call(60, 10, 0, 100, False) == ()
    publish(wire, queue, [Message(b"%d" % number) for number in range(3)])
    (tag,) = wire.call(60, 20, 0, queue, "", False, False, False, False, {})
    wire.decoder.name_consumer(tag, queue)
    first, second, third = (wire.next() for _ in range(3))
    assert [item.body for item in (first, second, third)] == [b"0", b"1", b"2"]
    wire.send(encode_nacks(1, [(second.tag, False, True)]))
    again = wire.next()
    assert (again.body, again.redelivered, again.queue, again.consumer_tag) == (b"1", True, queue, tag)
    assert wire.call(60, 30, tag, False) == (tag,)
    wire.send(encode_nacks(1, [(third.tag, True, True), (again.tag, False, True)]))
    assert wire.call(50, 30, 0, queue, False) == (3,)


def test_exchanges_and_bindings(wire: Wire, queue: str, unique: str) -> None:
    assert wire.call(40, 10, 0, unique, "topic", False, False, True, False, False, {}) == ()
    assert wire.call(40, 10, 0, unique + "-2", "fanout", False, False, True, False, False, {}) == ()
    assert wire.call(40, 30, 0, unique + "-2", unique, "a.#", False, {}) == ()
    assert wire.call(50, 20, 0, queue, unique + "-2", "", False, {}) == ()
    wire.send(encode_publish([Message(b"x", exchange=unique, routing_key="a.b")], mandatory=True))
    assert wire.next().args == (1, False)
    delivery = get(wire, queue)
    assert (delivery.body, delivery.exchange, delivery.routing_key) == (b"x", unique, "a.b")
    assert wire.call(50, 50, 0, queue, unique + "-2", "", {}) == ()


def test_a_channel_the_broker_closes_says_why(wire: Wire, unique: str) -> None:
    wire.call(20, 10, "", channel=2)
    wire.send(encode_method(2, 50, 30, (0, unique, False)))
    close = wire.next()
    assert (close.channel, close.class_id, close.method_id) == (2, 20, 40)
    assert close.args[0] == 404
    assert unique in close.args[1]
    assert close.args[2:] == (50, 30)
    wire.send(encode_method(2, 20, 41))
