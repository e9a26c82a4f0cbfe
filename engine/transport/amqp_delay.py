"""Delays on RabbitMQ: queues whose messages expire into the queue they are meant for.

A bucket is a fanout exchange and a queue of the same name, ``engine.delay.<ms>``: whatever is published to it
keeps its routing key, waits that long, and is dead-lettered to the default exchange, which is to say to the
queue its routing key names. So buckets know nothing of targets. A message for another exchange gets a bucket
of its own name that dead-letters there.

A message waits in the largest bucket that is not too long and says in a header when it is due; the consumer
that gets it early parks it again for the rest, and holds the last ``HOLD_S`` itself. In one bucket all wait
equally long, so nobody waits behind a later one.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Any, Final

from engine.codec import Delivery, Message
from engine.model import BindingSpec, ExchangeSpec, QueueSpec

DUE_HEADER: Final = "x-engine-due"  #: unix seconds; not to be given to anybody before
DUE_BYTES: Final = DUE_HEADER.encode()
EXPIRES_HEADER: Final = (
    "x-engine-expires"  #: unix seconds; the message's own TTL, which must not end its delay
)
HOLD_S: Final = 0.05  #: with less than this to go a consumer waits itself: another hop would cost more

BUCKETS_MS: Final = (
    *(step * 10**power for power in range(1, 8) for step in (1, 2, 5) if step * 10**power < 86_400_000),
    86_400_000,
)
_PREFIX = "engine.delay."
_DEATH_HEADERS = ("x-death", "x-first-death-exchange", "x-first-death-queue", "x-first-death-reason")


def bucket_ms(remaining_s: float) -> int:
    """The largest bucket that does not wait longer; 0 when even the smallest does."""
    index = bisect_right(BUCKETS_MS, remaining_s * 1000)
    return BUCKETS_MS[index - 1] if index else 0


def bucket_queue(wait_ms: int, exchange: str, queue_type: str = "") -> QueueSpec:
    """The bucket for messages to that exchange, as it is declared."""
    kind = "quorum." if queue_type == "quorum" else ""
    name = f"{_PREFIX}{kind}{wait_ms}" + (f".{exchange}" if exchange else "")
    arguments: dict[str, Any] = {"x-message-ttl": wait_ms, "x-dead-letter-exchange": exchange}
    if queue_type:
        arguments["x-queue-type"] = queue_type
    if queue_type == "quorum":
        # Only then does the broker keep a message until the target has taken it.
        arguments["x-dead-letter-strategy"] = "at-least-once"
        arguments["x-overflow"] = "reject-publish"
    return QueueSpec(name, arguments=arguments, bindings=(BindingSpec(ExchangeSpec(name, "fanout")),))


def delayed(message: Message, due_at: float, bucket: QueueSpec | None, now: float) -> Message:
    """A copy that waits in the bucket; without one it goes where it is meant for, and the consumer holds
    it."""
    headers = {name: value for name, value in (message.headers or {}).items() if name not in _DEATH_HEADERS}
    headers[DUE_HEADER] = due_at
    expiration_ms = message.expiration_ms
    if expiration_ms is not None:
        headers[EXPIRES_HEADER] = now + expiration_ms / 1000
        expiration_ms = None
    return Message(
        message.body,
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        headers=headers,
        exchange=bucket.name if bucket is not None else message.exchange,
        routing_key=message.routing_key,
        delivery_mode=message.delivery_mode,
        priority=message.priority,
        correlation_id=message.correlation_id,
        reply_to=message.reply_to,
        expiration_ms=expiration_ms,
        message_id=message.message_id,
        timestamp=message.timestamp,
        type=message.type,
        user_id=message.user_id,
        app_id=message.app_id,
    )


def due_of(delivery: Delivery) -> float | None:
    """When a delivery is due, None for one that was never delayed."""
    due_at = delivery.header(DUE_HEADER)
    return float(due_at) if isinstance(due_at, (int, float)) else None


def expired(delivery: Delivery, now: float) -> bool:
    expires_at = delivery.header(EXPIRES_HEADER)
    return isinstance(expires_at, (int, float)) and now > expires_at


def arrived(delivery: Delivery) -> None:
    """Take the marks of the journey off a delivery that is due."""
    headers = delivery.headers
    headers.pop(DUE_HEADER, None)
    headers.pop(EXPIRES_HEADER, None)
    deaths = headers.get("x-death")
    if isinstance(deaths, list) and all(
        isinstance(death, dict) and str(death.get("queue", "")).startswith(_PREFIX) for death in deaths
    ):
        for name in _DEATH_HEADERS:
            headers.pop(name, None)
