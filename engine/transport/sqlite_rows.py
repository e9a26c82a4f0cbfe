"""A message as a row, and back. The envelope holds all but the body, as one piece of kombu's JSON."""

from __future__ import annotations

from typing import Any

from engine.codec import Delivery, Message, json_decode, json_encode
from engine.errors import EncodeError
from engine.transport.embedded import (
    clamp_priority,
    dead_letter_headers,
    due_ms_of,
    expires_ms_of,
    properties_of,
    time_to_live_of,
)
from engine.transport.sqlite_schema import DELAYED, READY
from engine.transport.sqlite_topology import StoredQueue

#: id, queue, priority, deliveries, expires_ms, envelope, body
ClaimedRow = tuple[int, int, int, int, int | None, bytes, bytes]

#: id, queue, envelope, body
BuriedRow = tuple[int, int, bytes, bytes]


def envelope_of(message: Message) -> bytes:
    """Raises EncodeError for headers that JSON can't hold."""
    try:
        return json_encode(
            [
                message.exchange,
                message.routing_key,
                message.content_type,
                message.content_encoding,
                message.headers or {},
                properties_of(message),
            ]
        )
    except EncodeError:
        raise
    except (TypeError, ValueError, RecursionError) as error:
        raise EncodeError(f"the message's headers cannot be stored: {error}") from error


def row_of(message: Message, envelope: bytes, queue: StoredQueue, now_ms: int) -> tuple[Any, ...]:
    """The parameters of INSERT_MESSAGE."""
    due_ms = due_ms_of(message.due_at, now_ms)
    start_ms = due_ms or now_ms
    return (
        READY if due_ms is None else DELAYED,
        queue.id,
        clamp_priority(message.priority),
        start_ms,
        due_ms,
        expires_ms_of(time_to_live_of(message), queue.arguments, start_ms),
        envelope,
        message.body,
    )


def delivery_of(row: ClaimedRow, queue: str, epoch: int) -> Delivery:
    row_id, _, _, deliveries, _, envelope, body = row
    exchange, routing_key, content_type, content_encoding, headers, properties = json_decode(envelope)
    return Delivery(
        body,
        tag=row_id,
        epoch=epoch,
        queue=queue,
        exchange=exchange,
        routing_key=routing_key,
        redelivered=deliveries > 0,
        delivery_count=deliveries,
        content_type=content_type,
        content_encoding=content_encoding,
        headers=headers,
        properties=properties,
    )


def dead_letter_of(envelope: bytes, queue: str, exchange: str, routing_key: str, reason: str) -> bytes:
    """Its envelope in a dead-letter queue: readdressed, with the reason, without its time to live."""
    died_in, _, content_type, content_encoding, headers, properties = json_decode(envelope)
    properties.pop("expiration", None)
    told = dead_letter_headers(headers, queue, died_in, reason)
    return json_encode([exchange, routing_key, content_type, content_encoding, told, properties])


def address_of(envelope: bytes) -> tuple[str, dict[str, Any]]:
    """(routing key, headers)."""
    _, routing_key, _, _, headers, _ = json_decode(envelope)
    return routing_key, headers
