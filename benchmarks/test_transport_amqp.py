"""The AMQP transport beside py-amqp on the same RabbitMQ, in turn and in the same run.

Run with ``python -m pytest benchmarks/test_transport_amqp.py``. Held is what this process's CPU costs, and
loosely the time that passes: the broker's share depends on the machine (`ratio.py`). py-amqp has no batches:
with confirms it waits for every message.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import amqp
import pytest

from benchmarks.ratio import Clients, pairs
from engine.codec import Message
from engine.model import QueueSpec
from engine.transport.amqp import AmqpTransport
from tools.brokers import RabbitMQ

ROUNDS = 5
COUNT = 5000
BATCH = 100
PREFETCH = 500
TASK_ID = "d0c9a7f2-4c0c-4a6c-9b4e-0f8f0a1b2c3d"
HEADERS: dict[str, Any] = {
    "lang": "py",
    "task": "proj.tasks.add",
    "id": TASK_ID,
    "retries": 0,
    "argsrepr": "(2, 2)",
}
BODY = b'[[2, 2], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'

pytestmark = pytest.mark.amqp


class Ours:
    name = "engine"

    def __init__(self, url: str, queue: str) -> None:
        self.transport = AmqpTransport(url)
        self.transport.connect()
        self.transport.declare(QueueSpec(queue))
        self.queue = queue
        message = Message(BODY, headers=HEADERS, routing_key=queue, correlation_id=TASK_ID, reply_to="r")
        self.batch = [message] * BATCH

    def publish(self, count: int, confirm: bool) -> None:
        for _ in range(count // BATCH):
            assert self.transport.publish(self.batch, confirm=confirm) == [None] * BATCH

    def drain(self, count: int) -> None:
        self.transport.consume([self.queue], PREFETCH)
        while count > 0:
            deliveries = self.transport.receive(10)
            self.transport.ack(deliveries)
            count -= len(deliveries)
        self.transport.cancel()

    def ready(self) -> int:
        return self.transport.queue_state(self.queue).ready

    def close(self) -> None:
        self.transport.delete_queue(self.queue)
        self.transport.close()


class PyAmqp:
    name = "py-amqp"

    def __init__(self, port: int, queue: str) -> None:
        self.queue = queue
        self.connection = amqp.Connection(f"127.0.0.1:{port}", "guest", "guest", virtual_host="/")
        self.connection.connect()
        self.confirming = amqp.Connection(
            f"127.0.0.1:{port}", "guest", "guest", virtual_host="/", confirm_publish=True
        )
        self.confirming.connect()
        self.channel, self.confirmed = self.connection.channel(), self.confirming.channel()

    def publish(self, count: int, confirm: bool) -> None:
        channel = self.confirmed if confirm else self.channel
        for _ in range(count):
            message = amqp.Message(
                BODY,
                content_type="application/json",
                content_encoding="utf-8",
                application_headers=HEADERS,
                delivery_mode=2,
                correlation_id=TASK_ID,
                reply_to="r",
            )
            channel.basic_publish(message, exchange="", routing_key=self.queue, mandatory=confirm)

    def drain(self, count: int) -> None:
        left = count
        channel = self.channel

        def take(message: amqp.Message) -> None:
            nonlocal left
            assert message.properties["application_headers"]["task"]
            left -= 1
            if left % BATCH == 0:
                channel.basic_ack(message.delivery_tag, multiple=True)

        channel.basic_qos(0, PREFETCH, False)
        tag = channel.basic_consume(self.queue, callback=take)
        while left > 0:
            self.connection.drain_events(timeout=10)
        channel.basic_cancel(tag)

    def close(self) -> None:
        self.connection.close()
        self.confirming.close()


Both = tuple[Ours, PyAmqp]


@pytest.fixture(scope="module")
def both(rabbitmq: RabbitMQ) -> Iterator[Both]:
    queue = f"bench-{uuid.uuid4().hex[:8]}"
    ours = Ours(rabbitmq.url, queue)
    theirs = PyAmqp(rabbitmq.port, queue)
    yield ours, theirs
    theirs.close()
    ours.close()


def _until_ready(ours: Ours, count: int) -> None:
    deadline_mono_s = time.monotonic() + 60
    while ours.ready() < count:
        assert time.monotonic() < deadline_mono_s
        time.sleep(0.02)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("confirm", "counts", "floor", "wall_floor"),
    [(False, (COUNT, 1000), 31, 14), (True, (2000, 300), 24, 4)],
    ids=["unconfirmed", "confirmed"],
)
def test_publish(both: Both, confirm: bool, counts: tuple[int, int], floor: float, wall_floor: float) -> None:
    what = f"RabbitMQ: publish, {'confirmed' if confirm else 'unconfirmed'}"
    clients = Clients(what, "engine", "py-amqp", floor, wall_floor)
    for _ in clients.rounds(ROUNDS):
        for client, count in pairs(both, counts):
            with clients.measured(client.name, count):
                client.publish(count, confirm)
            _until_ready(both[0], count)
            both[0].transport.purge(both[0].queue)


@pytest.mark.timeout(300)
def test_drain(both: Both) -> None:
    """Receiving and acknowledging, headers decoded on both sides."""
    clients = Clients("RabbitMQ: drain", "engine", "py-amqp", 7.5, 0.7)
    for _ in clients.rounds(ROUNDS):
        for client, count in pairs(both, (COUNT, 1000)):
            both[0].publish(count, False)
            _until_ready(both[0], count)
            with clients.measured(client.name, count):
                client.drain(count)
