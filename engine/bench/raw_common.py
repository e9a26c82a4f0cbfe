"""What the broker itself can do: bytes made ahead of time, on a plain socket or file, and no engine around.

This side stands in the same table as the others to show how much room is left above them. A message is a
whole task of the engine's, encoded once and sent again and again; received ones are counted and acknowledged
in batches, not run. `raw_amqp`, `raw_redis` and `raw_sqlite` each hold a `Sender` and a `work` loop.
Imported by the processes of a bench only.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol

from engine.bench.plan import Plan
from engine.bench.tasks import BEGIN
from engine.codec import Delivery, Message, TaskMessage, encode_task_body, encode_task_headers

#: Called by a work loop: so many messages were received, and how to get at the first of them.
Received = Callable[[int, Callable[[], Delivery]], None]

ACK_EVERY = 100  #: messages


class Sender(Protocol):
    """The publishing half of one kind of broker."""

    def encode(self, message: Message) -> bytes:
        """What is sent for one message."""

    def one_by_one(self, data: bytes, count: int) -> None:
        """Wait for the broker's answer to each, if it is to confirm."""

    def many(self, data: bytes, count: int, window: int) -> None:
        """With up to ``window`` unanswered."""

    def close(self) -> None: ...


def broker_module(plan: Plan) -> Any:
    """The module for the plan's broker."""
    return import_module(f"engine.bench.raw_{'amqp' if plan.on_amqp else plan.scheme}")


def message_for(plan: Plan, task: str) -> Message:
    """A task as the engine would send it."""
    pad = ("x" * plan.payload,) if plan.payload else ()
    arguments = pad if task == BEGIN else (2, 2, *pad)
    made = TaskMessage(task, "00000000-0000-4000-8000-000000000000", arguments, {})
    return Message(
        encode_task_body(made),
        headers=encode_task_headers(made, plan.lean),
        routing_key=plan.queue,
        correlation_id=made.id,
    )
