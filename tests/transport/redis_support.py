"""What the Redis tests share: transports that are closed after the test, a raw client, and waiting."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import redis

from engine.codec import Delivery, Message
from engine.model import QueueSpec
from engine.transport import TransportOptions
from engine.transport.redis import RedisTransport

DEADLINE_S = 15.0


class Desk:
    """Opens transports to one server and cleans up behind the test."""

    def __init__(self, url: str, unique: str) -> None:
        self.url = url
        self.unique = unique
        self.opened: list[RedisTransport] = []
        self.queues: set[str] = set()
        self.raw: redis.Redis = redis.Redis.from_url(url)

    def open(self, url: str | None = None, **options: Any) -> RedisTransport:
        transport = RedisTransport(url or self.url, TransportOptions(**options))
        self.opened.append(transport)
        transport.connect()
        return transport

    def queue(self, suffix: str = "", transport: RedisTransport | None = None, **spec: Any) -> str:
        """A declared queue of this test's own."""
        name = f"{self.unique}{suffix}"
        self.queues.add(name)
        (transport or self.open()).declare(QueueSpec(name, **spec))
        return name

    def close(self) -> None:
        if self.queues:
            last = self.open()
            for name in self.queues:
                last.delete_queue(name)
        for transport in self.opened:
            transport.close()
        self.raw.close()


@contextmanager
def desk_at(url: str, unique: str) -> Iterator[Desk]:
    desk = Desk(url, unique)
    try:
        yield desk
    finally:
        desk.close()


def put(transport: RedisTransport, queue: str, *bodies: str, **fields: Any) -> None:
    """Publish and insist that all were accepted."""
    messages = [Message(body.encode(), routing_key=queue, **fields) for body in bodies]
    assert transport.publish(messages) == [None] * len(bodies)


def take(transport: RedisTransport, count: int, deadline_s: float = DEADLINE_S) -> list[Delivery]:
    """Receive until `count` deliveries are there."""
    deadline_mono_s = time.monotonic() + deadline_s
    taken: list[Delivery] = []
    while len(taken) < count:
        left_s = deadline_mono_s - time.monotonic()
        assert left_s > 0, f"{len(taken)} of {count} deliveries within {deadline_s} s"
        taken += transport.receive(left_s)
    return taken


def bodies(deliveries: list[Delivery]) -> list[str]:
    return [delivery.body.decode() for delivery in deliveries]


def wait_until(condition: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
    deadline_mono_s = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline_mono_s, f"not within {deadline_s} s: {what}"
        time.sleep(0.01)
