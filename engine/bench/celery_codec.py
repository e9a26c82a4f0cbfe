"""What Celery does between the values of a task and its frames on an AMQP connection, in memory.

The functions are its own: Celery's ``as_task_v2`` and ``Request``, kombu's serializers and messages, and the
frames of py-amqp. It is spared signals and routing where it sends, and dispatch to a consumer and to the pool
where it receives. Imported where Celery is installed only.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from amqp.method_framing import frame_handler, frame_writer
from amqp.serialization import dumps, loads
from amqp.transport import _AbstractTransport
from celery.worker.request import Request
from kombu import serialization
from kombu.transport.pyamqp import Channel
from kombu.transport.pyamqp import Message as KombuMessage

_FRAME_MAX = 131_072
_PUBLISH = (60, 40)


class _Received(_AbstractTransport):  # type: ignore[misc]
    """py-amqp's reader of frames, over bytes that are here already."""

    def __init__(self) -> None:
        self._read_buffer = b""
        self._at = 0
        self._data = b""

    def put(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def left(self) -> bool:
        return self._at < len(self._data)

    def _read(self, n: int, initial: bool = False) -> bytes:
        at = self._at
        self._at = at + n
        return self._data[at : at + n]

    def __del__(self) -> None:
        """There is no socket to close."""


class CeleryCodec:
    """Writes and reads tasks as an app of Celery's does.

    Args:
        app: the Celery app.
        task: its task, of which the messages are.
        queue: the queue they are published to.
    """

    def __init__(self, app: Any, task: Any, queue: str) -> None:
        self._app, self._task, self._queue = app, task, queue
        self._written: list[bytes] = []
        transport = SimpleNamespace(write=lambda data: self._written.append(bytes(data)))
        self._write_frame = frame_writer(SimpleNamespace(frame_max=_FRAME_MAX, bytes_sent=0), transport)
        self._received = _Received()
        self._found: list[Any] = []
        self._on_frame = frame_handler(
            SimpleNamespace(bytes_recv=0), lambda *method: self._found.append(method)
        )

    def write(self, task_id: str, arguments: Sequence[Any], **given: Any) -> bytes:
        """The frames of its basic.publish. ``given``: what Celery would else make itself, as argsrepr."""
        self._written.clear()
        made = self._app.amqp.as_task_v2(task_id, self._task.name, arguments, None, **given)
        content_type, encoding, body = serialization.dumps(made.body, serializer="json")
        message = Channel.prepare_message(
            None,
            body,
            0,
            content_type,
            encoding,
            headers=made.headers,
            properties={**made.properties, "delivery_mode": 2},
        )
        method = dumps("Bssbb", (0, "", self._queue, False, False))
        self._write_frame(1, 1, _PUBLISH, method, message)
        return b"".join(self._written)

    def read(self, frames: bytes) -> Request:
        """The request of a basic.deliver, with its arguments decoded."""
        received, found = self._received, self._found
        received.put(frames)
        found.clear()
        while received.left():
            self._on_frame(received.read_frame())
        [(_, _, method, raw)] = found
        (consumer, tag, redelivered, exchange, routing_key), _ = loads("sLbss", method, 4)
        raw.delivery_info = {
            "consumer_tag": consumer,
            "delivery_tag": tag,
            "redelivered": redelivered,
            "exchange": exchange,
            "routing_key": routing_key,
        }
        message = KombuMessage(raw, accept={"application/json"})
        return Request(message, app=self._app, task=self._task, hostname="host")


def frames_of(stream: bytes) -> int:
    """How many frames a stream has."""
    count = at = 0
    while at < len(stream):
        at += struct.unpack_from(">I", stream, at + 3)[0] + 8
        count += 1
    return count
