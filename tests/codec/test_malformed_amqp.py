"""Bytes no broker should send: cut, flipped, huge, deep, out of order. Typed errors only, little memory."""

from __future__ import annotations

import contextlib
import gc
import resource
import struct
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.codec import (
    HEARTBEAT_FRAME,
    Delivery,
    FrameDecoder,
    Message,
    Returned,
    decode_table,
    encode_method,
    encode_table,
)
from engine.errors import CodecError, DecodeError, MalformedFrame, MessageTooLarge
from tests.codec.amqp_oracle import deliver, frame, get_ok, returned, split_frames
from tests.codec.amqp_values import BARE, FULL, PLAIN

FIXTURES = {
    "deliver": deliver(FULL),
    "plain": deliver(PLAIN),
    "split": deliver(Message(b"z" * 5000), frame_max=4096),
    "empty": deliver(BARE),
    "get-ok": get_ok(PLAIN),
    "return": returned(FULL),
    "start": encode_method(0, 10, 10, (0, 9, {"capabilities": {"basic.nack": True}}, "PLAIN", "en_US")),
    "close": encode_method(1, 20, 40, (404, "NOT_FOUND", 50, 10)),
    "declare-ok": encode_method(1, 50, 11, ("q", 1, 2)),
    "ack": encode_method(1, 60, 80, (1, True)),
    "heartbeat": HEARTBEAT_FRAME,
}
CONNECTION_ERRORS = (MalformedFrame, MessageTooLarge)
fixtures = pytest.mark.parametrize("data", FIXTURES.values(), ids=FIXTURES)


def look_at(items: list[Any]) -> None:
    """Read all that is lazy; only the codec's own errors may come of it."""
    for item in items:
        repr(item)
        if isinstance(item, Delivery):
            with contextlib.suppress(CodecError):
                assert repr(item.to_message().headers or {}) == repr(item.headers)  # NaN is not NaN
                assert isinstance(item.properties, dict)


def method(class_id: int, method_id: int, args: bytes = b"", channel: int = 1) -> bytes:
    return frame(1, channel, struct.pack(">HH", class_id, method_id) + args)


def header(size: int, properties: bytes = b"\0\0", *, class_id: int = 60, channel: int = 1) -> bytes:
    return frame(2, channel, struct.pack(">HHQ", class_id, 0, size) + properties)


DELIVER = method(60, 60, b"\x01c" + struct.pack(">QB", 9, 0) + b"\0\x01q")
RETURN = method(60, 50, struct.pack(">H", 312) + b"\0\0\0")
LARGE = b"x" * 5000  #: of a body: when it is cut off, it is not kept but appended


@fixtures
def test_a_cut_stream_wants_more(data: bytes) -> None:
    for end in range(len(data)):
        decoder = FrameDecoder()
        assert decoder.feed(data[:end]) == []
        items = decoder.feed(data[end:])
        assert len(items) == 1
        look_at(items)


@fixtures
def test_a_payload_cut_inside_its_frame_is_a_typed_error(data: bytes) -> None:
    frames = split_frames(data)
    for index, (kind, channel, payload) in enumerate(frames):
        before = b"".join(frame(*parts) for parts in frames[:index])
        for end in range(len(payload)):
            decoder = FrameDecoder()
            decoder.feed(before)
            try:
                look_at(decoder.feed(frame(kind, channel, payload[:end])))
            except MalformedFrame:
                assert kind != 3
                continue
            assert kind in (2, 3)  # properties are read later; a shorter body waits for more


@fixtures
def test_every_flipped_bit_gives_a_typed_error_or_another_value(data: bytes) -> None:
    for position in range(min(len(data), 600)):
        for bit in range(8):
            broken = bytearray(data)
            broken[position] ^= 1 << bit
            try:
                look_at(FrameDecoder().feed(broken))
            except CONNECTION_ERRORS:
                continue


@given(st.binary(max_size=200))
def test_garbage_gives_a_typed_error_or_waits(data: bytes) -> None:
    with contextlib.suppress(*CONNECTION_ERRORS):
        look_at(FrameDecoder().feed(data))


@given(st.sampled_from([1, 2, 3, 8]), st.integers(0, 2), st.binary(max_size=80))
def test_a_garbage_payload_gives_a_typed_error_or_a_value(kind: int, channel: int, payload: bytes) -> None:
    with contextlib.suppress(*CONNECTION_ERRORS):
        look_at(FrameDecoder().feed(DELIVER + frame(kind, channel, payload)))


@given(st.binary(max_size=120))
def test_a_garbage_table_gives_a_typed_error_or_a_value(data: bytes) -> None:
    try:
        table = decode_table(struct.pack(">I", len(data)) + data)
    except DecodeError:
        return
    assert isinstance(table, dict)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"AMQP\x00\x00\x09\x01", "does not speak AMQP 0-9-1"),
        (b"HTTP/1.1 400 Bad Request", "unknown type 72; .* not the port of an AMQP broker"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "unknown type 21; .* or one that wants TLS"),
        (b"\x01\0\x01\xff\xff\xff\xff", "4294967303 bytes came; 131072 were agreed on"),
        (b"\x03\0\x01\0\x01\xff\xf9", "131073 bytes came; 131072 were agreed on"),
        (b"\x08\0\0\0\0\0\0\x00", "ends with 0x00 instead of 0xce"),
        (frame(8, 1, b""), "heartbeat frame with a channel or a payload"),
        (frame(8, 0, b"x"), "heartbeat frame with a channel or a payload"),
        (frame(1, 1, b"\0\x3c"), "2 bytes should follow"),
        (method(60, 40), "unknown method 60.40"),
        (method(99, 1), "unknown method 99.1"),
        (method(60, 80, b"\0" * 8), "1 bytes should follow"),
        (method(60, 80, b"\0" * 10), "1 bytes follow the method's last field"),
        (method(60, 80, b"\0" * 9, channel=0), "method basic.ack came on channel 0"),
        (method(10, 51), "method connection.close-ok came on channel 1"),
        (DELIVER[:-1] + b"\0", "ends with 0x00"),
        (method(60, 60, b"\x01c" + b"\0" * 11 + b"x"), "1 bytes follow"),
        (header(5), "a content header came without its method"),
        (frame(3, 1, b"x"), "a body came without its header"),
        (DELIVER + frame(3, 1, b"x"), "a body came without its header"),
        (DELIVER + DELIVER, "a method came where the rest of a message should"),
        (DELIVER + header(5) + DELIVER, "a method came where the rest of a message should"),
        (DELIVER + header(5) + header(5), "a content header came without its method"),
        (DELIVER + header(5, class_id=50), "a content header of class 50"),
        (DELIVER + header(5, b"\0"), "2 bytes should follow"),
        (DELIVER + header(5) + frame(3, 1, b"123456"), "a body exceeds its 5 bytes"),
        (DELIVER + header(5) + frame(3, 1, b"123") + frame(3, 1, b"456"), "a body exceeds its 5 bytes"),
        (DELIVER + header(0) + frame(3, 1, b""), "a body came without its header"),
        (DELIVER + header(5, channel=2), "channel 2: a content header came without its method"),
        (DELIVER + header(5) + frame(3, 2, b"12345"), "channel 2: a body came without its header"),
        (RETURN + header(0, b"\x80\0"), "1 bytes should follow"),
        (frame(3, 1, LARGE), "a body came without its header"),
        (DELIVER + frame(3, 1, LARGE), "a body came without its header"),
        (DELIVER + header(4999) + frame(3, 1, LARGE), "a body exceeds its 4999 bytes"),
        (DELIVER + header(9999) + frame(3, 1, LARGE) * 2, "a body exceeds its 9999 bytes"),
        (DELIVER + header(5000) + frame(3, 2, LARGE), "channel 2: a body came without its header"),
        (DELIVER + header(5000) + frame(3, 1, LARGE)[:-1] + b"\xcd", "ends with 0xcd instead of 0xce"),
    ],
    ids=lambda value: repr(value[:100]),
)
def test_what_breaks_the_protocol_is_named(data: bytes, why: str) -> None:
    for chunk in (len(data), len(data) - 1 or 1, 1):
        decoder = FrameDecoder()
        with pytest.raises(MalformedFrame, match=why):
            list(map(decoder.feed, (data[start : start + chunk] for start in range(0, len(data), chunk))))
        with pytest.raises(MalformedFrame, match="the bytes before could not be read"):
            decoder.feed(HEARTBEAT_FRAME)


def test_empty_body_frames_are_passed_over() -> None:
    data = (
        DELIVER + header(2) + frame(3, 1, b"") * 3 + frame(3, 1, b"a") + frame(3, 1, b"") + frame(3, 1, b"b")
    )
    (delivery,) = FrameDecoder().feed(data)
    assert isinstance(delivery, Delivery)
    assert delivery.body == b"ab"


def test_a_body_over_the_bound_is_refused_before_it_comes() -> None:
    decoder = FrameDecoder(max_message_size=1000)
    assert len(decoder.feed(deliver(Message(b"x" * 1000)))) == 1
    decoder.name_consumer("c", "the-queue")
    with pytest.raises(
        MessageTooLarge, match=r"message 9 of queue 'the-queue' .* 1001 bytes.* is 1000"
    ) as caught:
        decoder.feed(DELIVER + header(1001))
    assert (caught.value.channel, caught.value.delivery_tag) == (1, 9)  # type: ignore[attr-defined]
    with pytest.raises(MalformedFrame):
        decoder.feed(HEARTBEAT_FRAME)


@pytest.mark.parametrize("size", [2**31, 2**63 - 1, 2**63, 2**64 - 1])
def test_a_returned_body_of_absurd_size_is_refused(size: int) -> None:
    with pytest.raises(MessageTooLarge, match="a returned message") as caught:
        FrameDecoder().feed(RETURN + header(size))
    assert caught.value.delivery_tag is None  # type: ignore[attr-defined]


def test_a_claimed_size_allocates_little() -> None:
    decoders = [FrameDecoder(max_message_size=2**40) for _ in range(20)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    try:
        for decoder in decoders:
            assert decoder.feed(DELIVER + header(2**39) + frame(3, 1, b"x" * 100)) == []
            assert decoder.feed(b"\x03\0\x01\0\x01\xff\xf8") == []  # a frame of 128 KiB is to follow
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 * 80_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB


def test_a_body_costs_no_more_than_twice_what_came() -> None:
    decoder = FrameDecoder(max_message_size=2**30)
    decoder.feed(DELIVER + header(2**30))
    part = frame(3, 1, b"x" * 100_000)
    tracemalloc.start()
    try:
        for _ in range(50):
            decoder.feed(part)
        current = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert decoder.buffered == 5_000_000
    assert current < 2 * 5_000_000 + 200_000


def test_without_an_agreed_frame_max_the_message_bound_holds() -> None:
    decoder = FrameDecoder(frame_max=0, max_message_size=200_000)
    assert len(decoder.feed(deliver(Message(b"x" * 200_000), frame_max=2**20))) == 1
    with pytest.raises(MalformedFrame, match="200009 bytes came; 200008"):
        decoder.feed(b"\x03\0\x01" + struct.pack(">I", 200_001))


@pytest.mark.parametrize("kind", [b"F", b"A"])
def test_a_hundred_thousand_nested_tables(kind: bytes) -> None:
    key = b"\x01k" if kind == b"F" else b""
    nested = b""
    depth = 100_000
    head = len(key) + 1 + 4
    parts = [key + kind + struct.pack(">I", head * (depth - level - 1)) for level in range(depth)]
    nested = b"".join(parts)
    table = b"\x01k" * (kind == b"A") + nested
    with pytest.raises(DecodeError, match="deeper than 32"):
        decode_table(struct.pack(">I", len(table)) + table)
    properties = b"\x20\0" + struct.pack(">I", len(table)) + table
    (delivery,) = FrameDecoder(frame_max=2**24).feed(DELIVER + header(0, properties))
    with pytest.raises(DecodeError, match="deeper than 32"):
        _ = delivery.headers  # type: ignore[union-attr]


def test_every_length_field_of_a_table_set_to_the_largest() -> None:
    data = encode_table({"a": "text", "b": [1, {"c": b"x"}], "d": {}})
    for position in range(len(data) - 4):
        broken = data[:position] + b"\xff\xff\xff\xff" + data[position + 4 :]
        try:
            decode_table(broken)
        except DecodeError:
            continue


def test_a_returned_message_may_have_neither_properties_nor_body() -> None:
    (item,) = FrameDecoder().feed(RETURN + header(0))
    assert isinstance(item, Returned)
    assert item.message == Message(content_type=None, content_encoding=None, delivery_mode=None)


def test_nothing_is_held_back_from_what_was_read_or_refused() -> None:
    def work() -> None:
        for data in FIXTURES.values():
            look_at(FrameDecoder().feed(data))
            FrameDecoder().feed(data[:-1])
            broken = bytearray(data)
            broken[-1] = 0
            with contextlib.suppress(*CONNECTION_ERRORS):
                FrameDecoder().feed(broken)

    work()  # names are remembered once
    tracemalloc.start()
    try:
        work()
        gc.collect()  # what other tests left in cycles is not ours
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(300):
            work()
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert after - before < 20_000  # 3,300 deliveries and as many errors
