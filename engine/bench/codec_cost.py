"""What the codec itself costs: a task written as AMQP frames, and read again from them, in memory."""

from __future__ import annotations

import struct
import time
import uuid
from collections.abc import Sequence
from typing import Any

from engine.bench.tasks import ADD
from engine.codec import (
    Delivery,
    FrameDecoder,
    Message,
    TaskMessage,
    decode_task,
    encode_publish,
    encode_task_body,
    encode_task_headers,
)

_BASIC, _DELIVER = 60, 60
_FRAME_OVERHEAD = 8  # type, channel, size, end octet: section 4.2.3 of the AMQP 0-9-1 specification


def time_codec(count: int, arguments: Sequence[Any], *, lean: bool) -> tuple[float, float]:
    """Seconds to write and to read so many tasks."""
    task_id = str(uuid.uuid4())
    start_s = time.perf_counter()
    for _ in range(count):
        frames = encode_publish([_message(task_id, arguments, lean)])
    written_s = time.perf_counter() - start_s
    received, decoder = as_delivered(frames), FrameDecoder()
    start_s = time.perf_counter()
    for _ in range(count):
        for delivery in decoder.feed(received):
            if isinstance(delivery, Delivery):
                decode_task(delivery)
    return written_s, time.perf_counter() - start_s


def _message(task_id: str, arguments: Sequence[Any], lean: bool) -> Message:
    task = TaskMessage(ADD, task_id, arguments, {}, root_id=task_id)
    return Message(
        encode_task_body(task),
        headers=encode_task_headers(task, lean),
        routing_key="celery",
        correlation_id=task_id,
    )


def as_delivered(published: bytes) -> bytes:
    """What a broker would send for a message that was published: basic.deliver in place of basic.publish."""
    method_size = int.from_bytes(published[3:7], "big") + _FRAME_OVERHEAD
    arguments = b"\x05bench" + struct.pack(">Q?", 1, False) + b"\x00" + b"\x06celery"
    payload = struct.pack(">HH", _BASIC, _DELIVER) + arguments
    return struct.pack(">BHI", 1, 1, len(payload)) + payload + b"\xce" + published[method_size:]
