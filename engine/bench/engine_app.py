"""The engine's side of a bench: its app and its publishing client. Only processes of a bench import it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.app import Engine
from engine.bench import sqlite_writes, tasks
from engine.bench.codec_cost import time_codec
from engine.bench.naps import Nap
from engine.bench.plan import Plan
from engine.bench.points import FAMILIES

plan = Plan.from_env()
functions = tasks.make_tasks(plan.folder)

app = Engine(
    "bench",
    broker=plan.broker,
    backend=plan.results,
    task_ignore_result=plan.results is None,
    task_default_queue=plan.queue,
    task_default_queue_type=plan.queue_type,
    task_lean_headers=plan.lean,
    producer_confirms=plan.confirm,
)
add = app.task(name=tasks.ADD)(functions.add)
begin = app.task(name=tasks.BEGIN)(functions.begin)
nap = app.task(name=tasks.NAP)(functions.nap)
hold = app.task(name=tasks.HOLD)(functions.hold)
adds = [
    add,
    *(app.task(name=f"{tasks.ADD}-{number}")(functions.add) for number in range(1, plan.names)),
]

if plan.scheme == "sqlite" and plan.workload in FAMILIES["growth-children"]:
    sqlite_writes.watch(plan.folder)


class EngineClient:
    """Publishes with the engine."""

    def __init__(self) -> None:
        self._pad = ("x" * plan.payload,) if plan.payload else ()
        self._places: list[dict[str, Any]] = [{"queue": name} for name in plan.queue_names]
        self._places[0] = {}  # the default

    def publish(self, count: int) -> None:
        delay, pad = add.delay, self._pad
        for _ in range(count):
            delay(2, 2, *pad)

    def publish_many(self, count: int, batch: int) -> None:
        arguments, places = (2, 2, *self._pad), self._places
        plainly = len(adds) == 1 and not any(places)
        with app.batch(every=max(1, batch // 2)) as outbox:  # two lots are in flight
            if plainly:
                for _ in range(count):
                    add.apply_async(arguments, producer=outbox)
                return
            for number in range(count):
                adds[number % len(adds)].apply_async(
                    arguments, producer=outbox, **places[number % len(places)]
                )

    def hold(self) -> None:
        hold.delay()

    def begin(self) -> None:
        begin.delay(*self._pad)

    def naps(self, naps: Sequence[Nap]) -> None:
        with app.batch() as outbox:
            for arguments in naps:
                nap.apply_async(arguments, producer=outbox)

    def call(self, timeout_s: float) -> None:
        add.delay(2, 2, *self._pad).get(timeout=timeout_s)

    def codec(self, count: int) -> tuple[float, float]:
        return time_codec(count, (2, 2, *self._pad), lean=plan.lean)

    def close(self) -> None:
        app.close()


client = EngineClient()
