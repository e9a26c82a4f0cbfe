"""The virtual transports' envelope, both ways; kombu's own channel and message classes are the oracle."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kombu import Connection, Producer
from kombu.transport.redis import Channel as RedisChannel
from kombu.transport.virtual import Channel as VirtualChannel
from kombu.transport.virtual import Message as VirtualMessage
from kombu.utils import json as kombu_json

from engine.codec import Message, decode_envelope, encode_envelope

TAG = "6c3b2c1e-0000-4000-8000-000000000001"


class Published:
    """Stands where the Redis transport would LPUSH: kombu's channel hands it the finished envelope."""

    def __init__(self) -> None:
        self.connection = Connection("memory://")
        self.channel = self.connection.channel()
        self.envelopes: list[bytes] = []
        self.channel._put = lambda queue, message, **_: self.envelopes.append(
            kombu_json.dumps(message).encode()
        )

    def publish(self, body: Any, **options: Any) -> bytes:
        Producer(self.channel).publish(body, **options)
        return self.envelopes.pop()


@pytest.fixture(scope="module")
def kombu() -> Iterator[Published]:
    published = Published()
    yield published
    published.connection.release()


def read_by_kombu(envelope: bytes) -> VirtualMessage:
    """As kombu's Redis channel reads what it popped (kombu/transport/redis.py, _brpop_read)."""
    channel = SimpleNamespace(
        codecs=RedisChannel.codecs,
        decode_body=lambda body, encoding: VirtualChannel.decode_body(RedisChannel, body, encoding),
    )
    message = VirtualMessage(kombu_json.loads(envelope), channel=channel)
    assert not message.errors
    return message


def as_kombu_sees(message: Message, tag: str) -> dict[str, Any]:
    """The properties kombu would have put there."""
    properties = {
        "correlation_id": message.correlation_id,
        "reply_to": message.reply_to,
        "delivery_mode": message.delivery_mode,
        "expiration": None if message.expiration_ms is None else str(message.expiration_ms),
        "message_id": message.message_id,
        "timestamp": message.timestamp,
        "type": message.type,
        "user_id": message.user_id,
        "app_id": message.app_id,
    }
    return {name: value for name, value in properties.items() if value is not None} | {
        "priority": message.priority or 0,
        "body_encoding": "base64",
        "delivery_tag": tag,
        "delivery_info": {"exchange": message.exchange, "routing_key": message.routing_key},
    }


def assert_read_alike(message: Message, tag: str = TAG) -> None:
    envelope = encode_envelope(message, tag)
    theirs = read_by_kombu(envelope)
    assert theirs.body == message.body
    assert theirs.headers == (message.headers or {})
    assert theirs.properties == as_kombu_sees(message, tag)
    assert (theirs.content_type, theirs.content_encoding) == (message.content_type, message.content_encoding)
    ours = decode_envelope(envelope)
    assert ours.body == message.body
    assert ours.headers == theirs.headers
    assert (ours.tag, ours.exchange, ours.routing_key) == (tag, message.exchange, message.routing_key)
    own = {"body_encoding", "delivery_tag", "delivery_info"}
    assert ours.properties == {name: value for name, value in theirs.properties.items() if name not in own}


def test_a_plain_message_is_byte_for_byte_this() -> None:
    message = Message(
        b"[[1],{},{}]", headers={"task": "t", "id": "i"}, routing_key="celery", correlation_id="i"
    )
    assert encode_envelope(message, TAG) == (
        b'{"body":"W1sxXSx7fSx7fV0=","content-encoding":"utf-8","content-type":"application/json",'
        b'"headers":{"task":"t","id":"i"},"properties":{"correlation_id":"i","delivery_mode":2,'
        b'"delivery_info":{"exchange":"","routing_key":"celery"},"priority":0,"body_encoding":"base64",'
        b'"delivery_tag":"' + TAG.encode() + b'"}}'
    )  # fmt: skip


@pytest.mark.parametrize(
    "message",
    [
        Message(),
        Message(b"\x00\xff" * 100, content_type=None, content_encoding=None, delivery_mode=None),
        Message(b"a", content_type="text/plain", content_encoding="binary", priority=9, delivery_mode=1),
        Message(
            b"ab", headers={"d": datetime(2024, 1, 2, tzinfo=timezone.utc), "n": [None, 1.5, {"x": b"y"}]}
        ),
        Message(
            b"abc", exchange='e"x\\', routing_key="é\n\x00\x1f日本😀\x7f", correlation_id='"', reply_to="\t"
        ),
        Message(
            b"abcd",
            expiration_ms=1500,
            message_id="m",
            timestamp=1700000000,
            type="t",
            user_id="u",
            app_id="a",
        ),
        Message(b"x" * 100_000, headers={f"h{index}": "v" * index for index in range(200)}),
    ],
)
def test_written_for_kombu(message: Message) -> None:
    assert_read_alike(message)


texts = st.none() | st.text(st.characters(exclude_categories=["Cs"]))


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=50),
    st.builds(
        dict, content_type=texts, content_encoding=texts, correlation_id=texts, reply_to=texts, type=texts,
        exchange=texts.map(lambda text: text or ""), routing_key=texts.map(lambda text: text or ""),
        headers=st.none() | st.dictionaries(st.text(), st.text() | st.integers() | st.none() | st.booleans()),
        priority=st.none() | st.integers(0, 255), expiration_ms=st.none() | st.integers(0),
        timestamp=st.integers(0, 2**63 - 1),
    ),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
)  # fmt: skip
def test_any_message_is_read_alike(body: bytes, fields: dict[str, Any], tag: str) -> None:
    assert_read_alike(Message(body, **fields), tag)


@pytest.mark.parametrize("priority", [None, 0, 3, 9])
def test_reads_what_kombu_publishes(kombu: Published, priority: int | None) -> None:
    options: dict[str, Any] = {
        "correlation_id": "c", "reply_to": "r", "headers": {"task": "t", "n": None}, "delivery_mode": 1,
        "priority": priority, "routing_key": "celery", "expiration": 2.5, "timestamp": 7,
    }  # fmt: skip
    got = decode_envelope(kombu.publish([[1], {}, {}], serializer="json", **options))
    assert got.body == b"[[1], {}, {}]"
    assert (got.content_type, got.content_encoding) == ("application/json", "utf-8")
    assert (got.exchange, got.routing_key, got.redelivered, got.queue) == ("", "celery", False, "")
    assert got.headers == {"task": "t", "n": None}
    assert got.properties == {
        "correlation_id": "c", "reply_to": "r", "delivery_mode": 1, "priority": priority or 0,
        "expiration": "2500", "timestamp": 7,
    }  # fmt: skip
    assert isinstance(got.tag, str)


@pytest.mark.parametrize("serializer", ["json", "pickle", "yaml", "msgpack", "raw"])
@pytest.mark.parametrize("compression", [None, "zlib", "bzip2"])
def test_reads_every_body_kombu_publishes(kombu: Published, serializer: str, compression: str | None) -> None:
    body = b"\x00raw\xff" if serializer == "raw" else {"a": ["é", 1]}
    envelope = kombu.publish(body, serializer=serializer, compression=compression, routing_key="q")
    got, theirs = decode_envelope(envelope), VirtualMessage(kombu_json.loads(envelope), channel=kombu.channel)
    assert (got.content_type, got.content_encoding) == (theirs.content_type, theirs.content_encoding)
    assert ("compression" in got.headers) == bool(compression)
    if not compression:
        assert got.body == theirs.body


def test_redelivered_is_what_kombu_notes_on_restoring(kombu: Published) -> None:
    envelope = kombu_json.loads(kombu.publish({}, routing_key="q"))
    envelope["headers"]["redelivered"] = True
    assert decode_envelope(kombu_json.dumps(envelope).encode()).redelivered
    envelope["headers"] = {}
    envelope["properties"]["delivery_info"]["redelivered"] = True
    assert decode_envelope(kombu_json.dumps(envelope)).redelivered


@pytest.mark.parametrize("encoding", [None, "", "utf-8", "UTF-8"])
def test_bodies_that_are_plain_text(encoding: str | None) -> None:
    envelope = {"body": '["é"]', "properties": {"delivery_tag": TAG, "body_encoding": encoding}}
    assert decode_envelope(kombu_json.dumps(envelope)).body == '["é"]'.encode()
    del envelope["properties"]["body_encoding"]  # type: ignore[attr-defined]
    assert decode_envelope(kombu_json.dumps(envelope)).body == '["é"]'.encode()


def test_the_least_envelope() -> None:
    got = decode_envelope(b'{"properties":{"delivery_tag":"t"}}')
    assert (got.tag, got.body, got.headers, got.properties) == ("t", b"", {}, {})
    assert (got.content_type, got.content_encoding, got.exchange, got.routing_key) == (None, None, "", "")
