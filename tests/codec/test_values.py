"""The values themselves: defaults, comparison, pickling, and a repr that tells nothing it should not."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from hypothesis import given

from engine.codec import Delivery, FrameDecoder, Heartbeat, Message, Method, Returned
from tests.codec.amqp_oracle import deliver
from tests.codec.amqp_values import FULL, PLAIN, messages

FIELDS = {
    "body": b"b", "content_type": "t", "content_encoding": "e", "headers": {"k": 1}, "exchange": "x",
    "routing_key": "r", "delivery_mode": 1, "priority": 1, "correlation_id": "c", "reply_to": "p",
    "expiration_ms": 5, "message_id": "m", "timestamp": 6, "type": "y", "user_id": "u", "app_id": "a",
    "due_at": 1.5,
}  # fmt: skip


def test_a_message_is_persistent_json_by_default() -> None:
    message = Message()
    assert {name: getattr(message, name) for name in FIELDS} == {
        **dict.fromkeys(FIELDS), "body": b"", "content_type": "application/json", "content_encoding": "utf-8",
        "exchange": "", "routing_key": "", "delivery_mode": 2,
    }  # fmt: skip


def test_a_message_holds_what_it_is_given() -> None:
    message = Message(**FIELDS)  # type: ignore[arg-type]
    assert {name: getattr(message, name) for name in FIELDS} == FIELDS


@pytest.mark.parametrize("name", FIELDS)
def test_messages_differ_in_any_field(name: str) -> None:
    message, other = Message(), Message()
    assert message == other
    setattr(other, name, FIELDS[name])
    assert getattr(other, name) == FIELDS[name]
    assert message != other
    assert message != "a message"


@given(messages)
def test_messages_pickle_and_copy(message: Message) -> None:
    assert pickle.loads(pickle.dumps(message)) == message
    assert copy.copy(message) == message
    assert copy.deepcopy(message) == message


def test_a_message_received_pickles_with_its_headers() -> None:
    (delivery,) = FrameDecoder().feed(deliver(FULL))
    assert isinstance(delivery, Delivery)
    assert pickle.loads(pickle.dumps(delivery.to_message())) == FULL


@pytest.mark.parametrize("value", [Message(), Method(1, 60, 11)], ids=repr)
def test_what_can_change_has_no_hash(value: Any) -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(value)


def test_a_delivery_is_empty_by_default() -> None:
    delivery = Delivery()
    assert (delivery.body, delivery.tag, delivery.epoch, delivery.queue) == (b"", 0, 0, "")
    assert (delivery.consumer_tag, delivery.exchange, delivery.routing_key) == ("", "", "")
    assert (delivery.redelivered, delivery.delivery_count, delivery.context) == (False, None, None)
    assert (delivery.content_type, delivery.content_encoding) == (None, None)
    assert (delivery.headers, delivery.properties) == ({}, {})
    assert delivery.headers is delivery.headers


def test_a_delivery_given_decoded_becomes_a_message() -> None:
    headers = {"task": "t"}
    delivery = Delivery(
        b"body",
        tag="tag",
        queue="q",
        exchange="ex",
        routing_key="rk",
        delivery_count=3,
        content_type="text/plain",
        content_encoding="utf-8",
        headers=headers,
        properties={
            "delivery_mode": 1,
            "priority": 4,
            "correlation_id": "c",
            "expiration": "1500",
            "type": "y",
        },
        context=object(),
    )
    message = delivery.to_message()
    assert message == Message(
        b"body",
        content_type="text/plain",
        content_encoding="utf-8",
        headers={"task": "t"},
        exchange="ex",
        routing_key="rk",
        delivery_mode=1,
        priority=4,
        correlation_id="c",
        expiration_ms=1500,
        type="y",
    )
    message.headers["more"] = 1  # type: ignore[index]
    assert headers == {"task": "t"}
    assert delivery.delivery_count == 3
    delivery.delivery_count = 4
    assert delivery.delivery_count == 4


def test_a_deliverys_body_is_bytes() -> None:
    for body in ("text", None, bytearray(b"x")):
        with pytest.raises(TypeError):
            Delivery(body)  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        Delivery().body = b"other"  # type: ignore[misc]


def test_methods_returns_and_heartbeats_are_values() -> None:
    method = Method(1, 60, 80, [5, False])
    assert (method.channel, method.class_id, method.method_id, method.args) == (1, 60, 80, (5, False))
    assert method == Method(1, 60, 80, (5, False))
    assert method != Method(2, 60, 80, (5, False))
    assert method != Heartbeat()
    assert Heartbeat() == Heartbeat()
    assert len({Heartbeat(), Heartbeat()}) == 1
    returned = Returned(1, 312, "NO_ROUTE", "ex", "rk", PLAIN)
    assert (returned.channel, returned.reply_code, returned.reply_text) == (1, 312, "NO_ROUTE")
    assert (returned.exchange, returned.routing_key, returned.message) == ("ex", "rk", PLAIN)


def test_no_repr_shows_what_is_inside_a_message() -> None:
    secret = "s3cret"
    message = Message(secret.encode(), headers={secret: secret}, correlation_id=secret, routing_key="rk")
    delivery = Delivery(secret.encode(), headers={secret: secret}, tag=5, queue="q")
    returned = Returned(1, 312, "NO_ROUTE", "ex", "rk", message)
    assert repr(message) == (
        "<Message exchange='' routing_key='rk' content_type='application/json' body=6 bytes>"
    )
    assert repr(delivery) == "<Delivery tag=5 queue='q' exchange='' routing_key='' body=6 bytes>"
    assert repr(returned) == f"<Returned 312 'NO_ROUTE' {message!r}>"
    assert repr(Heartbeat()) == "<Heartbeat>"
    assert "NoneType" in repr(Message(None))  # type: ignore[arg-type]
