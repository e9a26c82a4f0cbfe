"""Headers and properties come back as they were sent."""

from __future__ import annotations

from typing import Any

import pytest

from engine.codec import Message
from engine.model import QueueSpec
from engine.transport import Transport
from tests.conformance.backends import publish, take

HEADERS: dict[str, Any] = {
    "lang": "py",
    "unicode": "größer 雪 \U0001f600",
    "empty": "",
    "none": None,
    "true": True,
    "false": False,
    "zero": 0,
    "negative": -1,
    "above 32 bits": 2**40,
    "float": 1.5,
    "list": [1, "two", None, [3.0, []]],
    "nested": {"a": {"b": {"c": [1, {"d": "e"}]}}},
    "timelimit": [None, None],
}


def _round_trip(transport: Transport, queue: QueueSpec, message: Message) -> Any:
    publish(transport, message)
    transport.consume([queue.name], 1)
    [delivery] = take(transport, 1)
    transport.ack([delivery])
    return delivery


def test_headers(transport: Transport, queue: QueueSpec) -> None:
    delivery = _round_trip(transport, queue, Message(b"x", routing_key=queue.name, headers=HEADERS))
    assert delivery.headers == HEADERS
    assert delivery.header("lang") == "py"
    assert delivery.header("absent", "default") == "default"


def test_no_headers(transport: Transport, queue: QueueSpec) -> None:
    delivery = _round_trip(transport, queue, Message(b"x", routing_key=queue.name))
    assert delivery.headers == {}


def test_properties(transport: Transport, queue: QueueSpec) -> None:
    message = Message(
        b"{}",
        routing_key=queue.name,
        content_type="application/json",
        content_encoding="utf-8",
        delivery_mode=2,
        priority=3,
        correlation_id="correlation-1",
        reply_to="reply-queue",
        expiration_ms=600_000,
    )
    delivery = _round_trip(transport, queue, message)
    assert delivery.content_type == "application/json"
    assert delivery.content_encoding == "utf-8"
    found = delivery.properties
    assert found["correlation_id"] == "correlation-1"
    assert found["reply_to"] == "reply-queue"
    assert found["delivery_mode"] == 2
    assert found["priority"] == 3
    assert str(found["expiration"]) == "600000"


@pytest.mark.parametrize(
    ("name", "value"),
    [("message_id", "m-1"), ("timestamp", 1_700_000_000), ("type", "kind"), ("app_id", "app")],
)
def test_rarer_properties(transport: Transport, queue: QueueSpec, name: str, value: Any) -> None:
    message = Message(b"x", routing_key=queue.name, **{name: value})
    assert _round_trip(transport, queue, message).properties[name] == value


def test_a_delivery_can_be_sent_again(transport: Transport, queue: QueueSpec) -> None:
    message = Message(b"\x00\xff", routing_key=queue.name, headers=HEADERS, correlation_id="c", reply_to="r")
    first = _round_trip(transport, queue, message)
    again = first.to_message()
    again.exchange, again.routing_key = "", queue.name
    second = _round_trip(transport, queue, again)
    assert second.body == first.body
    assert second.headers == first.headers
    assert second.properties == first.properties
