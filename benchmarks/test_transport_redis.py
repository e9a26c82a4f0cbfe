"""The Redis transport beside kombu's on the same Redis, in turn and in the same run.

Run with ``python -m pytest benchmarks/test_transport_redis.py``. Held is what this process's CPU costs, and
loosely the time that passes: the server's share depends on the machine (`ratio.py`). kombu's producer has no
batches: a round trip a message.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import kombu
import pytest

from benchmarks.ratio import Clients, pairs
from engine.codec import Message
from engine.model import QueueSpec
from engine.transport.redis import RedisTransport
from tools.brokers import Redis

ROUNDS = 4
COUNTS = (3000, 500)
BATCH = 100
PREFETCH = 100
TASK_ID = "d0c9a7f2-4c0c-4a6c-9b4e-0f8f0a1b2c3d"
HEADERS: dict[str, Any] = {
    "lang": "py",
    "task": "proj.tasks.add",
    "id": TASK_ID,
    "retries": 0,
    "argsrepr": "(2, 2)",
}
BODY = b'[[2, 2], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'

pytestmark = pytest.mark.redis


class Ours:
    name = "engine"

    def __init__(self, url: str, queue: str) -> None:
        self.transport = RedisTransport(url)
        self.transport.connect()
        self.transport.declare(QueueSpec(queue))
        self.queue = queue
        message = Message(BODY, headers=HEADERS, routing_key=queue, correlation_id=TASK_ID, reply_to="r")
        self.batch = [message] * BATCH

    def publish(self, count: int) -> None:
        for _ in range(count // BATCH):
            assert self.transport.publish(self.batch) == [None] * BATCH

    def drain(self, count: int) -> None:
        self.transport.consume([self.queue], PREFETCH)
        while count > 0:
            deliveries = self.transport.receive(10)
            self.transport.ack(deliveries)
            count -= len(deliveries)
        self.transport.cancel()

    def close(self) -> None:
        self.transport.delete_queue(self.queue)
        self.transport.close()


class Kombu:
    name = "kombu"

    def __init__(self, url: str, queue: str) -> None:
        self.connection = kombu.Connection(url)
        self.channel = self.connection.channel()
        self.producer = kombu.Producer(self.channel)
        self.queue = kombu.Queue(queue, kombu.Exchange(""), routing_key=queue, no_declare=True)

    def publish(self, count: int) -> None:
        for _ in range(count):
            self.producer.publish(
                BODY,
                content_type="application/json",
                content_encoding="utf-8",
                headers=HEADERS,
                routing_key=self.queue.name,
                correlation_id=TASK_ID,
                reply_to="r",
            )

    def drain(self, count: int) -> None:
        left = count

        def take(message: Any) -> None:
            nonlocal left
            assert message.headers["task"]
            left -= 1
            message.ack()

        with kombu.Consumer(self.channel, [self.queue], on_message=take, prefetch_count=PREFETCH):
            while left > 0:
                self.connection.drain_events(timeout=10)

    def close(self) -> None:
        self.connection.close()


Both = tuple[Ours, Kombu]


@pytest.fixture(scope="module")
def both(redis: Redis) -> Iterator[Both]:
    queue = f"bench-{uuid.uuid4().hex[:8]}"
    ours, theirs = Ours(redis.url, queue), Kombu(redis.url, queue)
    yield ours, theirs
    theirs.close()
    ours.close()


@pytest.mark.timeout(300)
def test_publish(both: Both) -> None:
    clients = Clients("Redis: publish", "engine", "kombu", 33, 8)
    for _ in clients.rounds(ROUNDS):
        for client, count in pairs(both, COUNTS):
            with clients.measured(client.name, count):
                client.publish(count)
            assert both[0].transport.purge(both[0].queue) == count


@pytest.mark.timeout(300)
def test_drain(both: Both) -> None:
    """Receiving and acknowledging, headers decoded on both sides."""
    clients = Clients("Redis: drain", "engine", "kombu", 100, 10)
    for _ in clients.rounds(ROUNDS):
        for client, count in pairs(both, COUNTS):
            both[0].publish(count)
            with clients.measured(client.name, count):
                client.drain(count)
