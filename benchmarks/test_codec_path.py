"""The codec's whole walk, from the values of a task to its frames and back, beside what Celery does for it.

Celery's side is celery's ``as_task_v2``, kombu's serializer and message, and py-amqp's frames; it is spared
what it would do besides: signals and routing when sending, splitting the stream into frames when reading.
Lean is what either sends by default, so that celery makes ``argsrepr`` and the like itself; with full headers
these are given to both.
"""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import pytest
from amqp.method_framing import frame_handler, frame_writer
from amqp.serialization import dumps, loads
from celery.worker.request import Request
from kombu import serialization
from kombu.transport.pyamqp import Channel
from kombu.transport.pyamqp import Message as KombuMessage

from benchmarks import operations
from benchmarks.celery_app import add, app
from benchmarks.operations import ARGS, ID, NAME, QUEUE, REPLY_TO
from benchmarks.ratio import faster


def split(stream: bytes) -> list[tuple[int, int, bytes]]:
    """The frames of a stream, as py-amqp's reader hands them on."""
    frames = []
    at = 0
    while at < len(stream):
        kind, channel, size = struct.unpack_from(">BHI", stream, at)
        frames.append((kind, channel, stream[at + 7 : at + 7 + size]))
        at += size + 8
    return frames


@pytest.mark.parametrize(("lean", "floor"), [(True, 27), (False, 10)], ids=["lean", "full"])
def test_task_to_frames(benchmark: Any, lean: bool, floor: float) -> None:
    written: list[bytes] = []
    transport = SimpleNamespace(write=lambda data: written.append(bytes(data)))
    write = frame_writer(SimpleNamespace(frame_max=131072, bytes_sent=0), transport)

    given = {} if lean else {"argsrepr": "(2, 3)", "kwargsrepr": "{}", "origin": "gen1@host"}

    def theirs() -> None:
        written.clear()
        task = app.amqp.as_task_v2(ID, NAME, ARGS, None, reply_to=REPLY_TO, **given)
        content_type, encoding, body = serialization.dumps(task.body, serializer="json")
        properties = {**task.properties, "delivery_mode": 2}
        message = Channel.prepare_message(
            None, body, 0, content_type, encoding, headers=task.headers, properties=properties
        )
        write(1, 1, (60, 40), dumps("Bssbb", (0, "", QUEUE, False, False)), message)

    theirs()
    assert len(split(b"".join(written))) == len(split(operations.task_frames(lean))) == 3
    faster(
        benchmark,
        f"task to frames, {'lean' if lean else 'full'} headers",
        lambda: operations.task_frames(lean),
        "celery",
        theirs,
        floor,
        **({"aim_us": 1.6, "aim_times": 40} if lean else {}),
    )


@pytest.mark.parametrize(("lean", "floor"), [(True, 7.9), (False, 6.8)], ids=["lean", "full"])
def test_frames_to_task(benchmark: Any, lean: bool, floor: float) -> None:
    parts = split(operations.delivered(operations.task_frames(lean)))
    found: list[Any] = []

    def theirs() -> Request:
        found.clear()
        on_frame = frame_handler(SimpleNamespace(bytes_recv=0), lambda *call: found.append(call))
        for part in parts:
            on_frame(part)
        [(_, _, args, raw)] = found
        (consumer, tag, redelivered, exchange, routing_key), _ = loads("sLbss", args, 4)
        raw.delivery_info = {
            "consumer_tag": consumer, "delivery_tag": tag, "redelivered": redelivered, "exchange": exchange,
            "routing_key": routing_key,
        }  # fmt: skip
        message = KombuMessage(raw, accept={"application/json"})
        return Request(message, app=app, task=add, hostname="host")

    read = operations.task_reader(lean)
    assert (theirs().id, theirs().args) == (read().id, read().args) == (ID, list(ARGS))
    faster(
        benchmark,
        f"frames to task, {'lean' if lean else 'full'} headers",
        read,
        "celery",
        theirs,
        floor,
        **({"aim_us": 2.5, "aim_times": 20} if lean else {}),
    )
