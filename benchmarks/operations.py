"""What a task costs on the wire, as named operations: each is one call that does the whole of it once.

`test_codec_path.py` times them beside celery, kombu and py-amqp; `tools/instructions.py` counts their
instructions. This module imports nothing but the codec, so that it starts quickly under callgrind, and every
operation is free of state that grows from call to call.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from engine.codec import (
    FrameDecoder,
    Message,
    TaskMessage,
    decode_envelope,
    decode_task,
    encode_envelope,
    encode_publish,
    encode_task_body,
    encode_task_headers,
    json_decode,
    json_encode,
)

ID = "d0c9a7f2-4c0c-4a6c-9b4e-0f8f0a1b2c3d"
REPLY_TO = "6f1c2a34-0b1d-3e5f-8a7b-9c0d1e2f3a4b"
NAME = "proj.tasks.add"
ARGS = (2, 3)
QUEUE = "celery"
VALUE = [[2, 3, "four", 5.5], {"rows": [1, 2, 3], "name": "customer", "active": True, "note": None}, {}]


def task_message(lean: bool) -> Message:
    """Lean: as the engine sends by default. Full: with every header Celery sends."""
    if lean:
        task = TaskMessage(NAME, ID, ARGS)
    else:
        task = TaskMessage(NAME, ID, ARGS, argsrepr="(2, 3)", kwargsrepr="{}", origin="gen1@host")
    return Message(
        encode_task_body(task),
        headers=encode_task_headers(task, lean),
        routing_key=QUEUE,
        correlation_id=ID,
        reply_to=REPLY_TO,
    )


def task_frames(lean: bool) -> bytes:
    """From the values of a task to the frames of its basic.publish."""
    return encode_publish([task_message(lean)])


def delivered(published: bytes) -> bytes:
    """basic.deliver in place of basic.publish: what a broker sends for a message it was given."""
    payload = struct.pack(">HH", 60, 60) + b"\x05None4" + struct.pack(">Q?", 1, False) + b"\x00\x06celery"
    content = published[7 + struct.unpack_from(">I", published, 3)[0] + 1 :]
    return struct.pack(">BHI", 1, 1, len(payload)) + payload + b"\xce" + content


def task_reader(lean: bool) -> Callable[[], TaskMessage]:
    """From the bytes of a delivery to its task."""
    stream = delivered(task_frames(lean))
    decoder = FrameDecoder()

    def read() -> TaskMessage:
        [delivery] = decoder.feed(stream)
        return decode_task(delivery)  # type: ignore[arg-type]

    return read


def envelope_writer() -> Callable[[], bytes]:
    message = task_message(lean=True)
    return lambda: encode_envelope(message, ID)


def envelope_reader() -> Callable[[], TaskMessage]:
    """As a worker reads it: the delivery of a Redis list's item, and its task."""
    envelope = envelope_writer()()
    return lambda: decode_task(decode_envelope(envelope))


def json_reader() -> Callable[[], Any]:
    text = json_encode(VALUE)
    return lambda: json_decode(text)


OPERATIONS: dict[str, Callable[[], object]] = {
    "task to frames, lean headers": lambda: task_frames(True),
    "task to frames, full headers": lambda: task_frames(False),
    "frames to task, lean headers": task_reader(True),
    "frames to task, full headers": task_reader(False),
    "message to Redis envelope": envelope_writer(),
    "Redis envelope to task": envelope_reader(),
    "value to JSON": lambda: json_encode(VALUE),
    "JSON to value": json_reader(),
}
