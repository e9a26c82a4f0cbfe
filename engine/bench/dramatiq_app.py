"""Dramatiq's side of a bench: the same tasks as actors of an installed dramatiq.

Its messages are persistent and it acknowledges after the work, as it always does. Only the queue's name,
confirms and a result store are set here; processes, threads and prefetch are set where its worker is started.
Imported by the processes of a bench only.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlsplit

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.brokers.redis import RedisBroker

from engine.bench import tasks
from engine.bench.naps import Nap
from engine.bench.plan import Plan
from engine.transport.url import BrokerURL

plan = Plan.from_env()
functions = tasks.make_tasks(plan.folder)


def pika_url(url: str) -> str:
    """The URL as pika reads it: ``amqp://host//`` names a virtual host without a name there."""
    vhost = BrokerURL.parse(url).path or "/"
    return urlsplit(url)._replace(path=f"/{quote(vhost, safe='')}").geturl()


def make_broker() -> Any:
    """A namespace of the run's own keeps all that dramatiq writes to Redis together."""
    broker: Any
    if plan.on_amqp:
        broker = RabbitmqBroker(url=pika_url(plan.broker), confirm_delivery=plan.confirm)
    else:
        broker = RedisBroker(url=plan.broker, namespace=plan.queue)
    if plan.results:
        from dramatiq.results import Results
        from dramatiq.results.backends import RedisBackend

        broker.add_middleware(Results(backend=RedisBackend(url=plan.results)))
    return broker


broker = make_broker()
dramatiq.set_broker(broker)
options: dict[str, Any] = {"queue_name": plan.queue, **({"store_results": True} if plan.results else {})}
add: Any = dramatiq.actor(functions.add, actor_name=tasks.ADD, **options)
begin: Any = dramatiq.actor(functions.begin, actor_name=tasks.BEGIN, **options)
nap: Any = dramatiq.actor(functions.nap, actor_name=tasks.NAP, **options)
hold: Any = dramatiq.actor(functions.hold, actor_name=tasks.HOLD, **options)


class DramatiqClient:
    """Publishes with dramatiq, which has one way to do it."""

    def __init__(self) -> None:
        self._pad = ("x" * plan.payload,) if plan.payload else ()

    def publish(self, count: int) -> None:
        send, pad = add.send, self._pad
        for _ in range(count):
            send(2, 2, *pad)

    def publish_many(self, count: int, batch: int) -> None:
        self.publish(count)

    def begin(self) -> None:
        begin.send(*self._pad)

    def naps(self, naps: Sequence[Nap]) -> None:
        for seconds, short in naps:
            nap.send(seconds, short)

    def hold(self) -> None:
        hold.send()

    def call(self, timeout_s: float) -> None:
        add.send(2, 2, *self._pad).get_result(block=True, timeout=int(timeout_s * 1000))

    def codec(self, count: int) -> tuple[float, float]:
        """Its message and no frames: a lower bound."""
        start = time.perf_counter()
        for _ in range(count):
            data = add.message(2, 2, *self._pad).encode()
        encoded_s = time.perf_counter() - start
        start = time.perf_counter()
        for _ in range(count):
            dramatiq.Message.decode(data)
        return encoded_s, time.perf_counter() - start

    def close(self) -> None:
        broker.close()


client = DramatiqClient()
