"""The brokers under test, each behind the same few words, so that a test never asks which one it has."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from engine.codec import Delivery, Message
from engine.model import QueueSpec, QueueState
from engine.transport import Capabilities, Transport, TransportOptions, transport_class

#: No condition may take longer than this to come true.
DEADLINE_S = 15.0

NAMES = ("amqp", "redis", "sqlite", "memory", "kombu")
#: The same brokers over TLS, for the tests marked ``over_tls``: those that move much or wait.
TLS_NAMES = ("amqps", "rediss")


@dataclass
class Backend:
    """One broker: how to open transports to it, and how to clean up after a test."""

    name: str
    url: str
    unique: str
    most_urgent: int = 9  #: the priority that goes first
    least_urgent: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    opened: list[Transport] = field(default_factory=list)
    queues: set[str] = field(default_factory=set)

    @property
    def capabilities(self) -> Capabilities:
        return transport_class(self.url)(self.url).capabilities

    def open(self, **options: Any) -> Transport:
        """A connected transport of its own; closed after the test."""
        transport = transport_class(self.url)(self.url, TransportOptions(**{**self.options, **options}))
        self.opened.append(transport)
        transport.connect()
        return transport

    def open_mortal(self) -> Transport:
        """One whose claims come back soon after it is dead, where that depends on a lease."""
        return self.open(lease=1.0)

    def queue(self, suffix: str = "", **spec: Any) -> QueueSpec:
        """A queue nobody else uses; deleted after the test."""
        name = f"{self.unique}{suffix}"
        self.queues.add(name)
        return QueueSpec(name, **spec)

    def needs(self, *capabilities: str) -> None:
        """Skip the test when the broker says it can't do this."""
        for capability in capabilities:
            if not getattr(self.capabilities, capability):
                pytest.skip(f"{self.name} has not the capability {capability!r}")

    def needs_exchange(self, kind: str) -> None:
        if kind not in self.capabilities.exchanges:
            pytest.skip(f"{self.name} routes no {kind} exchanges")

    def clean(self) -> None:
        try:
            last = self.open()
            for name in self.queues:
                last.delete_queue(name)
        finally:
            for transport in self.opened:
                transport.close()

    def spawn(self, function: Callable[..., None], *arguments: Any) -> subprocess.Popen[str]:
        """Run `function(transport, *arguments)` of a test module in a fresh process, with pipes."""
        self.needs("crosses_processes")
        call = {
            "module": function.__module__,
            "function": function.__name__,
            "url": self.url,
            "options": {**self.options, "lease": 1.0},
            "arguments": arguments,
        }
        return subprocess.Popen(
            [sys.executable, "-m", "tests.conformance.process", json.dumps(call)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )


def text(body: str, queue: str, **fields: Any) -> Message:
    """A message with a short body for one queue, through the default exchange."""
    return Message(body.encode(), routing_key=queue, **fields)


def publish(transport: Transport, *messages: Message) -> None:
    """Publish and insist that all were accepted."""
    assert transport.publish(messages) == [None] * len(messages)


def take(transport: Transport, count: int, deadline_s: float = DEADLINE_S) -> list[Delivery]:
    """Receive until `count` deliveries are there."""
    deadline_mono_s = time.monotonic() + deadline_s
    taken: list[Delivery] = []
    while len(taken) < count:
        assert time.monotonic() < deadline_mono_s, f"{len(taken)} of {count} deliveries within {deadline_s} s"
        transport.recover()
        taken += transport.receive(0.2)
    return taken


def bodies(deliveries: Sequence[Delivery]) -> list[str]:
    return [delivery.body.decode() for delivery in deliveries]


def wait_until(condition: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Poll a condition that another party makes true."""
    deadline_mono_s = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline_mono_s, f"not within {deadline_s} s: {what}"
        time.sleep(0.005)


def wait_ready(transport: Transport, queue: str, count: int) -> QueueState:
    """Wait until the queue holds `count` ready messages (RabbitMQ counts a moment later)."""
    wait_until(lambda: transport.queue_state(queue).ready == count, f"{count} ready in {queue}")
    return transport.queue_state(queue)
