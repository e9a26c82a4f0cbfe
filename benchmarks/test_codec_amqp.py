"""The AMQP codec beside py-amqp, timed in the same run; each ratio has a floor (`ratio.py`).

Run with ``python -m pytest benchmarks/test_codec_amqp.py``. Calls handle a batch of 100 messages as a Celery
client sends them. py-amqp is spared what it would do besides: splitting the stream into frames when reading,
building the message when writing.
"""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import pytest
from amqp.basic_message import Message as AmqpMessage
from amqp.method_framing import frame_handler, frame_writer
from amqp.serialization import dumps, loads

from benchmarks.ratio import faster
from engine.codec import (
    Delivery,
    FrameDecoder,
    Message,
    decode_table,
    encode_acks,
    encode_publish,
    encode_table,
)

BATCH = 100
TASK_ID = "d0c9a7f2-4c0c-4a6c-9b4e-0f8f0a1b2c3d"
REPLY_TO = "6f1c2a34-0b1d-3e5f-8a7b-9c0d1e2f3a4b"
LEAN = {"task": "proj.tasks.add", "id": TASK_ID}
FULL: dict[str, Any] = {
    "lang": "py", "task": "proj.tasks.add", "id": TASK_ID, "shadow": None, "eta": None, "expires": None,
    "group": None, "group_index": None, "retries": 0, "timelimit": [None, None], "root_id": TASK_ID,
    "parent_id": None, "argsrepr": "(2, 2)", "kwargsrepr": "{}", "origin": "gen4711@host",
    "ignore_result": False, "replaced_task_nesting": 0, "stamped_headers": None, "stamps": {},
}  # fmt: skip
BODY = b'[[2, 2], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
headers = pytest.mark.parametrize("headers", [LEAN, FULL], ids=["lean", "full"])


def message(headers: dict[str, Any]) -> Message:
    return Message(BODY, headers=headers, routing_key="celery", correlation_id=TASK_ID, reply_to=REPLY_TO)


def amqp_message(headers: dict[str, Any]) -> AmqpMessage:
    return AmqpMessage(
        BODY,
        content_type="application/json",
        content_encoding="utf-8",
        application_headers=headers,
        delivery_mode=2,
        correlation_id=TASK_ID,
        reply_to=REPLY_TO,
    )


def deliveries(headers: dict[str, Any]) -> bytes:
    """A stream of basic.deliver, whose content frames are those of a basic.publish."""
    published = encode_publish([message(headers)])
    content = published[7 + struct.unpack_from(">I", published, 3)[0] + 1 :]
    args: bytes = dumps("sLbss", ("None4", 1, False, "", "celery"))
    payload = struct.pack(">HH", 60, 60) + args
    return (struct.pack(">BHI", 1, 1, len(payload)) + payload + b"\xce" + content) * BATCH


def frames(stream: bytes) -> list[tuple[int, int, bytes]]:
    found = []
    at = 0
    while at < len(stream):
        kind, channel, size = struct.unpack_from(">BHI", stream, at)
        found.append((kind, channel, stream[at + 7 : at + 7 + size]))
        at += size + 8
    return found


def kind_of(headers: dict[str, Any]) -> str:
    return "lean" if headers is LEAN else "full"


@headers
def test_decode_deliveries(benchmark: Any, headers: dict[str, Any]) -> None:
    """Frames to deliveries, with the headers and properties that every task reads."""
    stream = deliveries(headers)
    parts = frames(stream)
    ours = FrameDecoder()
    found: list[Any] = []

    def decode() -> list[Any]:
        return [(item.body, item.headers, item.properties) for item in ours.feed(stream)]  # type: ignore[union-attr]

    def reference() -> None:
        found.clear()
        on_frame = frame_handler(SimpleNamespace(bytes_recv=0), lambda *call: found.append(call))
        for part in parts:
            on_frame(part)
        for _, _, args, _ in found:
            loads("sLbss", args, 4)

    assert len(decode()) == BATCH
    what = f"deliveries read, {kind_of(headers)} headers"
    faster(benchmark, what, decode, "py-amqp", reference, 10, per=BATCH)


@headers
def test_decode_frames_only(benchmark: Any, headers: dict[str, Any]) -> None:
    """Frames to deliveries whose headers nobody asks for: what a transport itself costs."""
    stream = deliveries(headers)
    ours = FrameDecoder()
    assert all(isinstance(item, Delivery) for item in ours.feed(stream))
    benchmark(ours.feed, stream)


@pytest.mark.parametrize(("headers", "floor"), [(LEAN, 30), (FULL, 18)], ids=["lean", "full"])
def test_encode_publish(benchmark: Any, headers: dict[str, Any], floor: float) -> None:
    """Messages to method, header and body frames."""
    batch = [message(headers)] * BATCH
    written: list[bytes] = []
    connection = SimpleNamespace(frame_max=131072, bytes_sent=0)
    write = frame_writer(connection, SimpleNamespace(write=lambda data: written.append(bytes(data))))
    theirs = amqp_message(headers)

    def reference() -> None:
        written.clear()
        for _ in range(BATCH):
            write(1, 1, (60, 40), dumps("Bssbb", (0, "", "celery", False, False)), theirs)

    reference()
    assert encode_publish(batch) == b"".join(written)
    what = f"messages to frames, {kind_of(headers)} headers"
    faster(benchmark, what, lambda: encode_publish(batch), "py-amqp", reference, floor, per=BATCH)


def test_encode_one_publish(benchmark: Any) -> None:
    """The call alone, for a publisher that sends one message at a time."""
    one = [message(LEAN)]
    assert len(frames(encode_publish(one))) == 3
    benchmark(encode_publish, one)


def test_encode_acks(benchmark: Any) -> None:
    acks = [(tag, False) for tag in range(BATCH)]

    def reference() -> bytes:
        return b"".join(struct.pack(">BHIHH", 1, 1, 13, 60, 80) + dumps("Lb", ack) + b"\xce" for ack in acks)

    assert encode_acks(1, acks) == reference()
    faster(benchmark, "acknowledgements", lambda: encode_acks(1, acks), "py-amqp", reference, 56, per=BATCH)


def test_tables(benchmark: Any) -> None:
    """Field tables alone, both ways."""
    tables = [FULL] * BATCH
    written = encode_table(FULL)
    assert decode_table(written) == loads("F", written, 0)[0][0] == FULL

    def ours() -> None:
        for table in tables:
            decode_table(encode_table(table))

    def reference() -> None:
        for table in tables:
            loads("F", dumps("F", [table]), 0)

    faster(benchmark, "field tables, both ways", ours, "py-amqp", reference, 10.5, per=BATCH)
