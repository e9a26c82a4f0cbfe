"""What cannot be run: a byte-exact copy in the queue ``<queue>.dead``, with the reason in its headers.

The copy is published, confirmed, before the original is acknowledged (it is one of its outcome's follow-ups),
so nothing disappears silently. It does not expire: dead letters wait for a person.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

from engine.codec import Delivery, Message
from engine.errors import DecodeError
from engine.model import QueueSpec

#: the headers that say why; beside them the original's own headers stay as they were
REASON = "x-engine-reason"
ERROR = "x-engine-error"
QUEUE = "x-engine-queue"
EXCHANGE = "x-engine-exchange"
ROUTING_KEY = "x-engine-routing-key"
HOST = "x-engine-host"
TIME = "x-engine-dead-at"
UNKNOWN_SINCE = "x-engine-unknown-since"

_ERROR_CHARACTERS = 2000


def queue_of(delivery: Delivery) -> str:
    """The queue it came from, as far as the broker told."""
    return delivery.queue or delivery.routing_key or "unknown"


def dead_letter(delivery: Delivery, queue: str, reason: str, error: str, hostname: str) -> Message:
    """The copy, addressed to ``queue``."""
    message = delivery.to_message()
    reasons: dict[str, Any] = {
        REASON: reason,
        ERROR: error[:_ERROR_CHARACTERS],
        QUEUE: queue_of(delivery),
        EXCHANGE: delivery.exchange,
        ROUTING_KEY: delivery.routing_key,
        HOST: hostname,
        TIME: int(time.time()),
    }
    with contextlib.suppress(DecodeError):  # headers that cannot be read go as they came, and alone
        message.headers = {**(message.headers or {}), **reasons}
    message.exchange = ""
    message.routing_key = queue
    message.expiration_ms = None
    message.due_at = None
    message.delivery_mode = 2
    return message


def postponed(delivery: Delivery, since: float, due_at: float) -> Message:
    """A copy for the same queue, to come back later: its task may be known by then (a rolling deploy)."""
    message = delivery.to_message()
    message.headers = {**(message.headers or {}), UNKNOWN_SINCE: since}
    message.exchange = ""
    message.routing_key = queue_of(delivery)
    message.due_at = due_at
    return message


def queue_spec(name: str) -> QueueSpec:
    """How a dead-letter queue is declared: durable, no expiry, no further dead-lettering."""
    return QueueSpec(name)
