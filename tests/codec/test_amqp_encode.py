"""Publishing: frames as py-amqp writes and reads them, bodies split at frame_max, acks in one buffer."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.codec import FrameDecoder, Message, Method, encode_acks, encode_nacks, encode_publish
from engine.errors import EncodeError, MessageTooLarge
from tests.codec.amqp_oracle import PUBLISH, as_amqp, frame, read_publish, split_frames, write
from tests.codec.amqp_values import BARE, FULL, PLAIN, messages

tags = st.integers(0, 2**64 - 1)


def test_a_publish_is_these_bytes() -> None:
    message = Message(b"hi", content_type=None, content_encoding=None, exchange="e", routing_key="k")
    assert encode_publish([message], channel=2, mandatory=True) == (
        b"\x01\x00\x02\x00\x00\x00\x0b\x00\x3c\x00\x28\x00\x00\x01e\x01k\x01\xce"
        b"\x02\x00\x02\x00\x00\x00\x0f\x00\x3c\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x10\x00\x02\xce"
        b"\x03\x00\x02\x00\x00\x00\x02hi\xce"
    )


@pytest.mark.parametrize("message", [PLAIN, BARE], ids=["plain", "bare"])
@pytest.mark.parametrize("mandatory", [False, True])
def test_py_amqp_writes_the_same_bytes(message: Message, mandatory: bool) -> None:
    args = (0, message.exchange, message.routing_key, mandatory, False)
    assert encode_publish([message], mandatory=mandatory) == write(PUBLISH, "Bssbb", args, as_amqp(message))


@given(st.lists(messages, max_size=5), st.booleans())
def test_py_amqp_reads_what_is_published(batch: list[Message], mandatory: bool) -> None:
    published = read_publish(encode_publish(batch, mandatory=mandatory))
    assert len(published) == len(batch)
    for message, (args, content) in zip(batch, published, strict=True):
        assert args == (0, message.exchange, message.routing_key, mandatory, False)
        assert (content.body if message.body else b"") == message.body
        meant = {name: value for name, value in as_amqp(message).properties.items() if value is not None}
        assert content.properties == meant


@pytest.mark.parametrize("size", [0, 1, 4087, 4088, 4089, 2 * 4088, 2 * 4088 + 1, 100_000])
def test_bodies_are_split_at_frame_max(size: int) -> None:
    body = bytes(range(251)) * (size // 251 + 1)
    message = Message(body[:size], routing_key="q")
    written = encode_publish([message], frame_max=4096)
    bodies = [payload for kind, _, payload in split_frames(written) if kind == 3]
    assert b"".join(bodies) == message.body
    assert [len(part) for part in bodies[:-1]] == [4088] * (len(bodies) - 1)
    assert all(bodies)
    assert (read_publish(written)[0][1].body if size else b"") == message.body


def test_a_frame_max_of_zero_means_no_bound() -> None:
    body = b"x" * 300_000
    assert split_frames(encode_publish([Message(body)], frame_max=0))[2] == (3, 1, body)


def test_a_batch_is_what_its_messages_are_one_by_one() -> None:
    batch = [PLAIN, FULL, BARE, PLAIN]
    assert encode_publish(iter(batch)) == b"".join(encode_publish([message]) for message in batch)
    assert encode_publish([]) == b""


def test_a_header_must_fit_one_frame() -> None:
    room = 4096 - 8 - 14 - 4 - 1 - 1 - 1 - 4  # frame, class to flags, table length, key, type, string length
    fits = Message(headers={"k": "v" * room}, content_type=None, content_encoding=None, delivery_mode=None)
    assert (
        max(len(payload) + 8 for _, _, payload in split_frames(encode_publish([fits], frame_max=4096)))
        == 4096
    )
    fits.headers = {"k": "v" * (room + 1)}
    with pytest.raises(MessageTooLarge, match=r"take 4097 bytes; one frame of this connection holds 4096"):
        encode_publish([fits], frame_max=4096)


@pytest.mark.parametrize(
    ("messages", "options", "why"),
    [
        ([Message(routing_key="k" * 256)], {}, "routing_key is 256 bytes long"),
        ([Message(exchange="é" * 128)], {}, "exchange is 256 bytes long"),
        ([Message(exchange=None)], {}, "exchange must be a str, not NoneType"),  # type: ignore[arg-type]
        ([Message("text")], {}, "body must be bytes, not str"),  # type: ignore[arg-type]
        ([Message(None)], {}, "body must be bytes, not NoneType"),  # type: ignore[arg-type]
        (["text"], {}, "only a Message can be published, not a str"),
        ([None], {}, "only a Message can be published"),
        ([PLAIN], {"channel": 65536}, "channel must lie between"),
        ([PLAIN], {"frame_max": 4095}, "least is 4096"),
        ([PLAIN], {"frame_max": -1}, "frame_max must lie between"),
    ],
    ids=repr,
)
def test_what_cannot_be_published_is_refused(messages: Any, options: dict[str, Any], why: str) -> None:
    with pytest.raises(EncodeError, match=why):
        encode_publish(messages, **options)


def test_names_of_255_bytes_and_str_subclasses_are_welcome() -> None:
    class Key(str):
        __slots__ = ()

    message = Message(exchange="é" * 127 + "x", routing_key=Key("k" * 255))
    ((args, _),) = read_publish(encode_publish([message]))
    assert args[1:3] == ("é" * 127 + "x", "k" * 255)


@given(st.lists(st.tuples(tags, st.booleans())), st.integers(1, 65535))
def test_acks(acks: list[tuple[int, bool]], channel: int) -> None:
    written = encode_acks(channel, acks)
    assert FrameDecoder().feed(written) == [Method(channel, 60, 80, ack) for ack in acks]
    assert written == b"".join(
        frame(1, channel, struct.pack(">HHQB", 60, 80, tag, multiple)) for tag, multiple in acks
    )


@given(st.lists(st.tuples(tags, st.booleans(), st.booleans())), st.integers(1, 65535))
def test_nacks(nacks: list[tuple[int, bool, bool]], channel: int) -> None:
    written = encode_nacks(channel, iter(nacks))
    assert FrameDecoder().feed(written) == [Method(channel, 60, 120, nack) for nack in nacks]
    assert written == b"".join(
        frame(1, channel, struct.pack(">HHQB", 60, 120, tag, multiple + 2 * requeue))
        for tag, multiple, requeue in nacks
    )


@pytest.mark.parametrize("tag", [-1, 2**64, "1", None, 1.0])
def test_a_tag_that_is_none_is_refused(tag: Any) -> None:
    with pytest.raises(EncodeError, match="delivery tag must"):
        encode_acks(1, [(tag, False)])
    with pytest.raises(EncodeError, match="delivery tag must"):
        encode_nacks(1, [(tag, False, True)])
