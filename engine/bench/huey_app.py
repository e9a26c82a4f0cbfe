"""Huey's side of a bench: the same tasks on an installed huey, over Redis or a SQLite file of its own.

The file waits for the disk at each transaction (``fsync``): that is the only way huey has not to lose
published tasks in a power cut. Imported by the processes of a bench only.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from huey import RedisHuey, SqliteHuey

from engine.bench import tasks
from engine.bench.leftovers import own_file
from engine.bench.naps import Nap
from engine.bench.plan import Plan

plan = Plan.from_env()
functions = tasks.make_tasks(plan.folder)


def make_huey() -> Any:
    """Named as the run's queue, so that its keys can be found again."""
    results = plan.results is not None
    if plan.scheme == "sqlite":
        return SqliteHuey(plan.queue, filename=str(own_file(plan)), fsync=True, results=results)
    return RedisHuey(plan.queue, url=plan.broker, clean_name=False, results=results)


huey = make_huey()
add: Any = huey.task(name=tasks.ADD)(functions.add)
begin: Any = huey.task(name=tasks.BEGIN)(functions.begin)
nap: Any = huey.task(name=tasks.NAP)(functions.nap)
hold: Any = huey.task(name=tasks.HOLD)(functions.hold)


class HueyClient:
    """Publishes with huey, which has one way to do it."""

    def __init__(self) -> None:
        self._pad = ("x" * plan.payload,) if plan.payload else ()

    def publish(self, count: int) -> None:
        pad = self._pad
        for _ in range(count):
            add(2, 2, *pad)

    def publish_many(self, count: int, batch: int) -> None:
        self.publish(count)

    def begin(self) -> None:
        begin(*self._pad)

    def naps(self, naps: Sequence[Nap]) -> None:
        for seconds, short in naps:
            nap(seconds, short)

    def hold(self) -> None:
        hold()

    def call(self, timeout_s: float) -> None:
        add(2, 2, *self._pad).get(blocking=True, timeout=timeout_s)

    def codec(self, count: int) -> tuple[float, float]:
        """Its message as it stands in the store."""
        start = time.perf_counter()
        for _ in range(count):
            data = huey.serialize_task(add.s(2, 2, *self._pad))
        encoded_s = time.perf_counter() - start
        start = time.perf_counter()
        for _ in range(count):
            huey.deserialize_task(data)
        return encoded_s, time.perf_counter() - start

    def close(self) -> None:
        """Nothing is held back that would have to be sent."""


client = HueyClient()
