"""What py-amqp makes of the same values and bytes: its writer, and its reader, without a socket."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

from amqp.basic_message import Message as AmqpMessage
from amqp.method_framing import frame_handler, frame_writer
from amqp.serialization import dumps, loads

from engine.codec import Delivery, FrameDecoder, Message

PUBLISH = (60, 40)
RETURN = (60, 50)
DELIVER = (60, 60)
GET_OK = (60, 71)


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    """A frame, written out by hand."""
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def split_frames(data: bytes) -> list[tuple[int, int, bytes]]:
    """(type, channel, payload) of whole frames."""
    frames = []
    at = 0
    while at < len(data):
        kind, channel, size = struct.unpack_from(">BHI", data, at)
        assert data[at + 7 + size] == 0xCE
        frames.append((kind, channel, data[at + 7 : at + 7 + size]))
        at += size + 8
    return frames


def write(
    signature: tuple[int, int],
    letters: str = "",
    args: tuple[Any, ...] = (),
    content: AmqpMessage | None = None,
    *,
    channel: int = 1,
    frame_max: int = 131072,
) -> bytes:
    """The frames py-amqp writes for a method and its content."""
    written: list[bytes] = []
    connection = SimpleNamespace(frame_max=frame_max, bytes_sent=0)
    transport = SimpleNamespace(write=lambda data: written.append(bytes(data)))
    frame_writer(connection, transport)(1, channel, signature, dumps(letters, args), content)
    return b"".join(written)


def read(data: bytes) -> list[tuple[int, tuple[int, int], bytes, AmqpMessage | None]]:
    """(channel, method, its arguments' bytes, content) of what py-amqp reads in whole frames."""
    found: list[Any] = []
    on_frame = frame_handler(
        SimpleNamespace(bytes_recv=0),
        lambda *call: found.append(call),
        content_methods={PUBLISH, RETURN, DELIVER, GET_OK},
    )
    for parts in split_frames(data):
        on_frame(parts)
    return [(channel, method, args[4:], content) for channel, method, args, content in found]


def read_publish(data: bytes) -> list[tuple[tuple[Any, ...], AmqpMessage]]:
    """((reserved, exchange, routing key, mandatory, immediate), content) of each basic.publish."""
    published = []
    for _, method, args, content in read(data):
        assert method == PUBLISH
        assert content is not None
        published.append((tuple(loads("Bssbb", args, 0)[0]), content))
    return published


def as_amqp(message: Message) -> AmqpMessage:
    """The same message for py-amqp, which leaves out what is None."""
    expiration = message.expiration_ms
    return AmqpMessage(
        message.body,
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        application_headers=message.headers,
        delivery_mode=message.delivery_mode,
        priority=message.priority,
        correlation_id=message.correlation_id,
        reply_to=message.reply_to,
        expiration=None if expiration is None else str(expiration),
        message_id=message.message_id,
        timestamp=message.timestamp,
        type=message.type,
        user_id=message.user_id,
        app_id=message.app_id,
    )


def deliver(
    message: Message,
    *,
    tag: int = 1,
    consumer_tag: str = "ctag",
    redelivered: bool = False,
    channel: int = 1,
    frame_max: int = 131072,
) -> bytes:
    """The frames of a basic.deliver, as py-amqp writes them."""
    args = (consumer_tag, tag, redelivered, message.exchange, message.routing_key)
    return write(DELIVER, "sLbss", args, as_amqp(message), channel=channel, frame_max=frame_max)


def returned(message: Message, *, code: int = 312, text: str = "NO_ROUTE", channel: int = 1) -> bytes:
    """The frames of a basic.return."""
    args = (code, text, message.exchange, message.routing_key)
    return write(RETURN, "Bsss", args, as_amqp(message), channel=channel)


def get_ok(message: Message, *, tag: int = 1, left: int = 0, channel: int = 1) -> bytes:
    """The frames of a basic.get-ok."""
    args = (tag, False, message.exchange, message.routing_key, left)
    return write(GET_OK, "Lbssl", args, as_amqp(message), channel=channel)


def received(data: bytes) -> Delivery:
    """The one delivery in these frames."""
    (delivery,) = FrameDecoder().feed(data)
    assert isinstance(delivery, Delivery)
    return delivery
