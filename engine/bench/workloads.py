"""The workloads: what one run of one side does, and what is measured while it does it. One function each.

``publish`` one task after the other, ``publish-many`` in batches, ``consume`` from a full queue,
``roundtrip`` one at a time on an idle system, ``codec`` in memory; `growth`, `bodies`, `memory`, `sharing`
and `at_rest` hold more. Each has a queue and a folder of its own, removed afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from engine.bench import at_rest, bodies, growth, memory, sharing
from engine.bench.measuring import Run, Sample, drain, fill, wait_until_arrived
from engine.bench.plan import WORKLOADS
from engine.bench.tally import read_tallies
from engine.errors import EngineError


def codec(run: Run) -> Sample:
    """In memory: the publisher's figure is encoding, the worker's decoding."""
    with run.publisher() as publisher:
        publisher.ask("codec", run.plan.warmup or 1)
        spent = publisher.ask("codec", run.plan.tasks)
    run.tick(run.plan.tasks)
    encode_s, decode_s = spent["encode_s"], spent["decode_s"]
    return Sample(
        rate=run.plan.tasks / (encode_s + decode_s),
        publisher_us=encode_s / run.plan.tasks * 1e6,
        worker_us=decode_s / run.plan.tasks * 1e6,
    )


def publish(run: Run) -> Sample:
    """``delay()`` in a loop."""
    return _publish(run, "publish")


def publish_many(run: Run) -> Sample:
    """In batches, where the side can; Celery cannot and publishes one by one."""
    return _publish(run, "publish-many")


def _publish(run: Run, deed: str) -> Sample:
    plan, meter = run.plan, run.meter
    with run.publisher() as publisher:
        if plan.warmup:
            publisher.ask(deed, plan.warmup)
        before_s = meter.read_s() if meter else 0.0
        start_s = time.monotonic()
        spent = publisher.ask(deed, plan.tasks)
        if plan.confirm:
            elapsed_s = spent["elapsed_s"]
        else:  # the publisher only knows that its socket has taken them
            wait_until_arrived(run, plan.warmup + plan.tasks)
            elapsed_s = time.monotonic() - start_s
        broker_s = meter.read_s() - before_s if meter else None
    run.tick(plan.tasks)
    return Sample(
        rate=plan.tasks / elapsed_s,
        publisher_us=spent["cpu_s"] / plan.tasks * 1e6,
        broker_us=None if broker_s is None else broker_s / plan.tasks * 1e6,
    )


def consume(run: Run) -> Sample:
    """The queue is full before the worker starts; counted from the warm-up's end to the last task's."""
    plan, total = run.plan, run.plan.warmup + run.plan.tasks
    fill(run, total)
    sample = drain(run, plan.warmup, total, last=True)
    if read_tallies(Path(plan.folder)).tasks < total:
        raise EngineError(f"of {total} tasks only {read_tallies(Path(plan.folder)).tasks} have ended")
    return sample


def roundtrip(run: Run) -> Sample:
    """One task at a time: until it begins, or with results on until its result is back."""
    plan = run.plan
    with (
        run.worker() as worker,
        run.publisher() as publisher,
    ):
        publisher.ask("roundtrip", max(plan.warmup, 1))
        meters = [worker.meter, *([run.meter] if run.meter else [])]
        spent_s = [meter.read_s() for meter in meters]
        found = publisher.ask("roundtrip", plan.tasks)
        spent_s = [meter.read_s() - before_s for meter, before_s in zip(meters, spent_s, strict=True)]
        worker.check()
    run.tick(plan.tasks)
    worker_us, *broker_us = [value / plan.tasks * 1e6 for value in spent_s]
    return Sample(
        rate=plan.tasks / found["elapsed_s"],
        publisher_us=found["cpu_s"] / plan.tasks * 1e6,
        worker_us=worker_us,
        broker_us=broker_us[0] if broker_us else None,
        latencies_ms=found["latencies_ms"],
    )


BY_NAME: dict[str, Callable[[Run], Sample]] = {
    "codec": codec,
    "publish": publish,
    "publish-many": publish_many,
    "consume": consume,
    "roundtrip": roundtrip,
    "start": at_rest.start,
    "idle": at_rest.idle,
    **dict.fromkeys(WORKLOADS["sharing"], sharing.sharing),
    "memory": memory.memory,
    **dict.fromkeys(WORKLOADS["growth"], growth.depth),
    **dict.fromkeys(WORKLOADS["growth-children"], growth.children),
    **dict.fromkeys(WORKLOADS["growth-queues"], growth.spread),
    **dict.fromkeys(WORKLOADS["growth-tasks"], growth.spread),
    **dict.fromkeys(WORKLOADS["bodies"], bodies.bodies),
}
