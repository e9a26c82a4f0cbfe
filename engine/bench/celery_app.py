"""Celery's side of a bench: the same tasks in an app of an installed Celery, with its defaults.

Only what the plan asks for differs from them: results off, the queue's name and type, confirms. Imported by
the processes of a bench only.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from celery import Celery

from engine.bench import tasks
from engine.bench.celery_codec import CeleryCodec
from engine.bench.codec_cost import as_delivered
from engine.bench.naps import Nap
from engine.bench.plan import Plan

plan = Plan.from_env()
functions = tasks.make_tasks(plan.folder)

app: Any = Celery("bench", broker=plan.broker, backend=plan.results)
app.conf.update(
    task_ignore_result=plan.results is None,
    task_default_queue=plan.queue,
    task_default_queue_type=plan.queue_type,
    broker_connection_retry_on_startup=True,
)
if plan.confirm and plan.on_amqp:
    app.conf.broker_transport_options = {"confirm_publish": True}
add: Any = app.task(functions.add, name=tasks.ADD)
begin: Any = app.task(functions.begin, name=tasks.BEGIN)
nap: Any = app.task(functions.nap, name=tasks.NAP)
hold: Any = app.task(functions.hold, name=tasks.HOLD)


class CeleryClient:
    """Publishes with Celery, which has one way to do it."""

    def __init__(self) -> None:
        self._pad = ("x" * plan.payload,) if plan.payload else ()

    def publish(self, count: int) -> None:
        delay, pad = add.delay, self._pad
        for _ in range(count):
            delay(2, 2, *pad)

    def publish_many(self, count: int, batch: int) -> None:
        self.publish(count)

    def begin(self) -> None:
        begin.delay(*self._pad)

    def naps(self, naps: Sequence[Nap]) -> None:
        for seconds, short in naps:
            nap.delay(seconds, short)

    def hold(self) -> None:
        hold.delay()

    def call(self, timeout_s: float) -> None:
        add.delay(2, 2, *self._pad).get(timeout=timeout_s)

    def codec(self, count: int) -> tuple[float, float]:
        return time_codec(count, self._pad)

    def close(self) -> None:
        app.close()


def time_codec(count: int, pad: tuple[str, ...]) -> tuple[float, float]:
    """Seconds to write and to read so many tasks."""
    codec, arguments = CeleryCodec(app, add, plan.queue), (2, 2, *pad)
    start_s = time.perf_counter()
    for number in range(count):
        published = codec.write(f"id-{number}", arguments)
    written_s = time.perf_counter() - start_s
    frames = as_delivered(published)
    start_s = time.perf_counter()
    for _ in range(count):
        codec.read(frames)
    return written_s, time.perf_counter() - start_s


client = CeleryClient()
