"""Basic properties: each as bytes, both ways; read when asked; republished byte for byte."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from amqp.serialization import decode_properties_basic
from hypothesis import given

from engine.codec import Delivery, Message, encode_publish
from engine.errors import DecodeError, EncodeError
from tests.codec.amqp_oracle import as_amqp, deliver, frame, received, split_frames
from tests.codec.amqp_values import FULL, PLAIN, messages, shown

LITERALS: list[tuple[str, Any, str, Any, bytes]] = [
    # Message field, its value, property, its value, flags and bytes
    ("content_type", "a/b", "content_type", "a/b", b"\x80\x00\x03a/b"),
    ("content_encoding", "utf-8", "content_encoding", "utf-8", b"\x40\x00\x05utf-8"),
    ("headers", {"k": None}, "headers", {"k": None}, b"\x20\x00\x00\x00\x00\x03\x01kV"),
    ("headers", {}, "headers", {}, b"\x20\x00\x00\x00\x00\x00"),
    ("delivery_mode", 2, "delivery_mode", 2, b"\x10\x00\x02"),
    ("priority", 255, "priority", 255, b"\x08\x00\xff"),
    ("correlation_id", "c", "correlation_id", "c", b"\x04\x00\x01c"),
    ("reply_to", "r", "reply_to", "r", b"\x02\x00\x01r"),
    ("expiration_ms", 60000, "expiration", "60000", b"\x01\x00\x0560000"),
    ("message_id", "", "message_id", "", b"\x00\x80\x00"),
    ("timestamp", 2**64 - 1, "timestamp", 2**64 - 1, b"\x00\x40" + b"\xff" * 8),
    ("type", "t", "type", "t", b"\x00\x20\x01t"),
    ("user_id", "u", "user_id", "u", b"\x00\x10\x01u"),
    ("app_id", "é", "app_id", "é", b"\x00\x08\x02\xc3\xa9"),
]


def bare(**fields: Any) -> Message:
    return Message(**{"content_type": None, "content_encoding": None, "delivery_mode": None, **fields})


def header_payload(message: Message) -> bytes:
    """Flags and properties, as they are published."""
    kind, _, payload = split_frames(encode_publish([message]))[1]
    assert kind == 2
    return payload[12:]


def delivery_of(properties: bytes, body: bytes = b"") -> Delivery:
    method = struct.pack(">HH", 60, 60) + b"\x01c" + struct.pack(">QB", 1, 0) + b"\x00\x01q"
    header = struct.pack(">HHQ", 60, 0, len(body)) + properties
    data = frame(1, 1, method) + frame(2, 1, header) + (frame(3, 1, body) if body else b"")
    return received(data)


@pytest.mark.parametrize(("field", "value", "name", "read", "written"), LITERALS)
def test_each_property_both_ways(field: str, value: Any, name: str, read: Any, written: bytes) -> None:
    assert header_payload(bare(**{field: value})) == written
    delivery = delivery_of(written)
    if name in ("content_type", "content_encoding", "headers"):
        assert getattr(delivery, name) == read
        assert delivery.properties == {}
    else:
        assert delivery.properties == {name: read}
        assert (delivery.content_type, delivery.content_encoding, delivery.headers) == (None, None, {})


def test_the_obsolete_cluster_id_survives() -> None:
    written = b"\x00\x04\x03abc"
    delivery = delivery_of(written)
    assert delivery.properties == {"cluster_id": "abc"}
    assert header_payload(delivery.to_message()) == written


@given(messages)
def test_py_amqp_reads_what_is_written(message: Message) -> None:
    meant = {name: value for name, value in as_amqp(message).properties.items() if value is not None}
    meant.pop("application_headers", None)
    read, end = decode_properties_basic(header_payload(message), 0)
    headers = read.pop("application_headers", None)
    assert read == meant
    assert end == len(header_payload(message))
    assert headers == message.headers


@given(messages)
def test_what_py_amqp_writes_is_read(message: Message) -> None:
    message.headers = None  # the tables have a test of their own
    written = as_amqp(message)._serialize_properties()
    assert written == header_payload(message)
    again = delivery_of(written, message.body).to_message()
    again.exchange, again.routing_key = message.exchange, message.routing_key
    assert again == message


@given(messages)
def test_to_message_is_published_byte_for_byte(message: Message) -> None:
    published = encode_publish([message])
    frames = split_frames(published)
    delivery = delivery_of(frames[1][2][12:], message.body)
    again = delivery.to_message()
    again.exchange, again.routing_key = message.exchange, message.routing_key
    assert encode_publish([again]) == published
    assert again == message
    assert encode_publish([again]) == published  # once its headers were read, too


def test_headers_of_types_this_codec_never_writes_are_republished_as_they_came() -> None:
    headers = b"\x01aB\x07\x01bU\x00\x07\x01cL\x00\x00\x00\x00\x00\x00\x00\x07\x01df\x3f\x00\x00\x00"
    written = b"\x20\x00" + struct.pack(">I", len(headers)) + headers
    delivery = delivery_of(written)
    assert delivery.headers == {"a": 7, "b": 7, "c": 7, "d": 0.5}
    delivery.headers["e"] = "stays here"
    assert header_payload(delivery.to_message()) == written


def test_a_republished_message_can_be_given_other_headers() -> None:
    delivery = received(deliver(PLAIN))
    again = delivery.to_message()
    assert again.headers is not None
    again.headers["retries"] = 1
    assert delivery.headers["retries"] == 0
    assert decode_properties_basic(header_payload(again), 0)[0]["application_headers"] == {
        **delivery.headers,
        "retries": 1,
    }
    again.headers = None
    assert "application_headers" not in decode_properties_basic(header_payload(again), 0)[0]


def test_reading_any_one_part_first_gives_the_same() -> None:
    data = deliver(FULL)
    for first in ("content_type", "content_encoding", "headers", "properties"):
        delivery = received(data)
        getattr(delivery, first)
        assert delivery.to_message() == FULL
        assert delivery.headers == FULL.headers
        assert delivery.headers is delivery.headers
        assert delivery.properties is delivery.properties
        assert delivery.header("big") == 2**40
        assert delivery.header("none", 5) == 5


@pytest.mark.parametrize("expiration", ["", "soon", "1.5", "-5", "12"])
def test_an_expiration_nobody_can_read_is_left_out(expiration: str) -> None:
    delivery = delivery_of(b"\x01\x00" + bytes([len(expiration)]) + expiration.encode())
    assert delivery.properties == {"expiration": expiration}
    assert delivery.to_message().expiration_ms == {"-5": 0, "12": 12}.get(expiration)


@pytest.mark.parametrize(
    "written",
    [
        b"\x80\x00",
        b"\x80\x00\x05abc",
        b"\x20\x00\x00\x00",
        b"\x20\x00\xff\xff\xff\xff",
        b"\x20\x00\x00\x00\x00\x05\x01kV",
        b"\x20\x00\x00\x00\x00\x03\x01k?",
        b"\x10\x00",
        b"\x00\x40\x00\x00",
        b"\x00\x01",
        b"\x00\x02",
        b"\x00\x00x",
        b"\x00\x20\x01ttrailing",
    ],
    ids=shown,
)
def test_bad_properties_spoil_only_their_delivery(written: bytes) -> None:
    delivery = delivery_of(written, b"body")
    assert delivery.body == b"body"
    for _ in range(2):
        with pytest.raises(DecodeError):
            delivery.headers, delivery.properties  # noqa: B018 - read for the error


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"content_type": "x" * 256}, "content_type is 256 bytes long"),
        ({"correlation_id": "é" * 128}, "correlation_id is 256 bytes long"),
        ({"reply_to": b"bytes"}, "reply_to must be a str, not bytes"),
        ({"priority": 256}, "priority must lie between 0 and 255, not 256"),
        ({"priority": -1}, "priority must lie between 0 and 255, not -1"),
        ({"priority": "high"}, "priority must be an int, not str"),
        ({"delivery_mode": 2**70}, "delivery_mode must lie between"),
        ({"expiration_ms": -1}, "expiration_ms must lie between"),
        ({"expiration_ms": 1.5}, "expiration_ms must be an int"),
        ({"timestamp": 2**64}, "timestamp must lie between"),
        ({"headers": [1]}, "made from a mapping"),
        ({"headers": {"when": object()}}, "'when'"),
    ],
    ids=shown,
)
def test_what_the_wire_cannot_hold_is_refused(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(EncodeError, match=why):
        encode_publish([Message(**fields)])
