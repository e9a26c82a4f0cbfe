"""Our messages as kombu's channels take them, and kombu's as our deliveries. No I/O of its own."""

from __future__ import annotations

from typing import Any

from engine.codec import Delivery, Message
from engine.transport.embedded import properties_of

#: When a message may be run: no kombu transport but AMQP's can hold one back, so its consumer does.
DUE_HEADER = "x-engine-due-at"

#: kombu's own, beside the basic properties.
_KOMBU_PROPERTIES = frozenset({"delivery_info", "delivery_tag", "body_encoding"})


def prepared(channel: Any, message: Message) -> Any:
    """What ``channel.basic_publish`` takes."""
    properties = properties_of(message)
    priority = properties.pop("priority", None)
    headers = dict(message.headers or {})
    if message.due_at is not None:
        headers[DUE_HEADER] = message.due_at
    return channel.prepare_message(
        message.body,
        priority=priority,
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        headers=headers,
        properties=properties,
    )


def due_at_of(raw: Any) -> float | None:
    """When it may be delivered; None for at once."""
    due_at = (raw.headers or {}).get(DUE_HEADER)
    return float(due_at) if isinstance(due_at, (int, float)) else None


def delivery_of(raw: Any, queue: str, epoch: int) -> Delivery:
    info = raw.delivery_info or {}
    envelope = getattr(raw, "_raw", None)
    redelivered = info.get("redelivered") or (isinstance(envelope, dict) and envelope.get("redelivered"))
    body = raw.body
    properties = {
        name: value
        for name, value in (raw.properties or {}).items()
        if name not in _KOMBU_PROPERTIES and value is not None
    }
    return Delivery(
        body if isinstance(body, bytes) else str(body or "").encode(),
        tag=raw.delivery_tag,
        epoch=epoch,
        queue=queue,
        exchange=info.get("exchange") or "",
        routing_key=info.get("routing_key") or "",
        redelivered=bool(redelivered),
        content_type=raw.content_type,
        content_encoding=raw.content_encoding,
        headers={name: value for name, value in (raw.headers or {}).items() if name != DUE_HEADER},
        properties=properties,
        context=raw,
    )
