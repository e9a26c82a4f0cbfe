"""What the brokers that live in this process (SQLite, memory) read out of a message and a queue's arguments.

Pure functions; times are unix milliseconds. Priorities run from 0 to 9 as on AMQP: the higher is the more
urgent, none given is 0, and more than 9 is 9.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from engine.codec import Message
from engine.errors import MessageTooLarge, QueueNotFound, Unroutable

HIGHEST_PRIORITY = 9

DEAD_LETTER_EXCHANGE = "x-dead-letter-exchange"
DEAD_LETTER_KEY = "x-dead-letter-routing-key"
MESSAGE_TTL = "x-message-ttl"


def properties_of(message: Message) -> dict[str, Any]:
    """The message's basic properties that are set, named and typed as `Delivery.properties` shows them."""
    found = {
        "delivery_mode": message.delivery_mode,
        "priority": message.priority,
        "correlation_id": message.correlation_id,
        "reply_to": message.reply_to,
        "expiration": None if message.expiration_ms is None else str(message.expiration_ms),
        "message_id": message.message_id,
        "timestamp": message.timestamp,
        "type": message.type,
        "user_id": message.user_id,
        "app_id": message.app_id,
    }
    return {name: value for name, value in found.items() if value is not None}


def clamp_priority(priority: int | None) -> int:
    return 0 if priority is None else max(0, min(HIGHEST_PRIORITY, priority))


def due_ms_of(due_at: float | None, now_ms: int) -> int | None:
    """When the message may be delivered, rounded up so that it is never early; None for at once."""
    if due_at is None:
        return None
    due_ms = math.ceil(due_at * 1000)
    return due_ms if due_ms > now_ms else None


def time_to_live_of(message: Message) -> int | None:
    """The message's own time to live, in ms. None for a task: when it expires stands in its headers too, and
    its worker tells the log and the caller, where a broker would drop it in silence."""
    headers = message.headers
    if headers and "task" in headers and headers.get("expires") is not None:
        return None
    return message.expiration_ms


def expires_ms_of(expiration_ms: int | None, queue_arguments: Mapping[str, Any], start_ms: int) -> int | None:
    """When it expires in this queue: the shorter of its own and the queue's TTL, from when it may be
    delivered."""
    bounds = [ttl for ttl in (expiration_ms, queue_arguments.get(MESSAGE_TTL)) if isinstance(ttl, int)]
    return start_ms + min(bounds) if bounds else None


def dead_letter_address(queue_arguments: Mapping[str, Any], routing_key: str) -> tuple[str, str] | None:
    """(exchange, routing key) for what the queue rejects or lets expire; None when it drops it."""
    exchange = queue_arguments.get(DEAD_LETTER_EXCHANGE)
    if exchange is None:
        return None
    key = queue_arguments.get(DEAD_LETTER_KEY)
    return str(exchange), routing_key if key is None else str(key)


def dead_letter_headers(headers: Mapping[str, Any], queue: str, exchange: str, reason: str) -> dict[str, Any]:
    """The headers with RabbitMQ's names for where and why the message first died."""
    first = {
        "x-first-death-queue": queue,
        "x-first-death-exchange": exchange,
        "x-first-death-reason": reason,
    }
    return {**first, **headers}


def too_large(message: Message, max_message_size: int) -> MessageTooLarge | None:
    size = len(message.body)
    if size <= max_message_size:
        return None
    return MessageTooLarge(
        f"the message body has {size} bytes and the limit is {max_message_size}: "
        "store the data elsewhere and send a reference"
    )


def unroutable(message: Message) -> Unroutable:
    if message.exchange:
        return Unroutable(f"exchange {message.exchange!r} has no queue bound for key {message.routing_key!r}")
    return Unroutable(f"there is no queue {message.routing_key!r}: declare it first, or start a worker on it")


def queue_not_found(name: str, where: str) -> QueueNotFound:
    return QueueNotFound(f"there is no queue {name!r} in {where}: declare it first, or start a worker on it")
