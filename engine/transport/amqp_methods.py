"""The AMQP 0-9-1 methods the engine uses: their numbers, and one function for each that is sent.

Every function gives the bytes of one frame. The order of arguments is that of the specification
(amqp0-9-1.xml); its reserved fields are filled in here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from engine.codec import encode_method

Table = Mapping[str, Any]

CONNECTION_START: Final = (10, 10)
CONNECTION_START_OK: Final = (10, 11)
CONNECTION_SECURE: Final = (10, 20)
CONNECTION_TUNE: Final = (10, 30)
CONNECTION_TUNE_OK: Final = (10, 31)
CONNECTION_OPEN: Final = (10, 40)
CONNECTION_OPEN_OK: Final = (10, 41)
CONNECTION_CLOSE: Final = (10, 50)
CONNECTION_CLOSE_OK: Final = (10, 51)
CONNECTION_BLOCKED: Final = (10, 60)
CONNECTION_UNBLOCKED: Final = (10, 61)
CHANNEL_OPEN: Final = (20, 10)
CHANNEL_OPEN_OK: Final = (20, 11)
CHANNEL_FLOW: Final = (20, 20)
CHANNEL_FLOW_OK: Final = (20, 21)
CHANNEL_CLOSE: Final = (20, 40)
CHANNEL_CLOSE_OK: Final = (20, 41)
BASIC_CANCEL: Final = (60, 30)
BASIC_GET_EMPTY: Final = (60, 72)
BASIC_ACK: Final = (60, 80)
BASIC_NACK: Final = (60, 120)


def method(channel: int, number: tuple[int, int], *args: Any) -> bytes:
    return encode_method(channel, number[0], number[1], args)


def exchange_declare(
    channel: int, name: str, kind: str, *, passive: bool, durable: bool, auto_delete: bool, arguments: Table
) -> bytes:
    return method(
        channel, (40, 10), 0, name, kind, passive, durable, auto_delete, False, False, dict(arguments)
    )


def queue_declare(
    channel: int,
    name: str,
    *,
    passive: bool = False,
    durable: bool = False,
    exclusive: bool = False,
    auto_delete: bool = False,
    arguments: Table | None = None,
) -> bytes:
    return method(
        channel, (50, 10), 0, name, passive, durable, exclusive, auto_delete, False, dict(arguments or {})
    )


def queue_bind(channel: int, queue: str, exchange: str, routing_key: str, arguments: Table) -> bytes:
    return method(channel, (50, 20), 0, queue, exchange, routing_key, False, dict(arguments))


def queue_purge(channel: int, queue: str) -> bytes:
    return method(channel, (50, 30), 0, queue, False)


def queue_delete(channel: int, queue: str) -> bytes:
    return method(channel, (50, 40), 0, queue, False, False, False)


def basic_qos(channel: int, prefetch: int) -> bytes:
    """For consumers that start after it, each on its own (``global`` false)."""
    return method(channel, (60, 10), 0, prefetch, False)


def basic_consume(channel: int, queue: str, consumer_tag: str) -> bytes:
    return method(channel, (60, 20), 0, queue, consumer_tag, False, False, False, False, {})


def basic_cancel(channel: int, consumer_tag: str) -> bytes:
    return method(channel, BASIC_CANCEL, consumer_tag, False)


def basic_get(channel: int, queue: str) -> bytes:
    return method(channel, (60, 70), 0, queue, False)


def confirm_select(channel: int) -> bytes:
    return method(channel, (85, 10), False)


def channel_open(channel: int) -> bytes:
    return method(channel, CHANNEL_OPEN, "")


def channel_close_ok(channel: int) -> bytes:
    return method(channel, CHANNEL_CLOSE_OK)


def connection_close(code: int = 200, text: str = "bye") -> bytes:
    return method(0, CONNECTION_CLOSE, code, text, 0, 0)
