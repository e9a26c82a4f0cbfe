"""The workloads: what one run of one side does, and what is measured while it does it. One function each.

``publish`` one task after the other, ``publish-many`` in batches, ``consume`` from a full queue,
``growth`` from queues of several depths, ``roundtrip`` one at a time on an idle system, ``codec`` in memory;
`sharing` and `at_rest` hold more. Each has a queue and a folder of its own, removed afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from engine.bench import at_rest, sharing
from engine.bench.measuring import Run, Sample, fill, wait_for, wait_until_arrived
from engine.bench.plan import GROWTH_DEPTHS, WORKLOADS
from engine.bench.tally import read_tallies
from engine.errors import EngineError

SETTLE_S = 0.2  # acknowledgements of the last tasks go out within this
_GROWTH_WARMUP = 100
_GROWTH_TASKS = 5_000  # no more are counted at any depth, so that the depth stays what it is


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
    sample = _drain(run, plan.warmup, total, last=True)
    if read_tallies(Path(plan.folder)).tasks < total:
        raise EngineError(f"of {total} tasks only {read_tallies(Path(plan.folder)).tasks} have ended")
    return sample


def growth(depth: int, run: Run) -> Sample:
    """The first tasks of a queue so deep: what each costs is not to depend on how many wait."""
    fill(run, depth)
    upto = min(depth, _GROWTH_TASKS)
    return replace(_drain(run, _GROWTH_WARMUP, upto, last=upto == depth), tasks=upto - _GROWTH_WARMUP)


def _drain(run: Run, warmup: int, upto: int, *, last: bool) -> Sample:
    """Start the worker, and measure from the warm-up's end until so many tasks have ended.

    ``last``: there are no more, so that what is done for them after their end can be waited for."""
    folder = Path(run.plan.folder)
    with run.worker() as worker:
        meters = [worker.meter, *([run.meter] if run.meter else [])]
        start = wait_for(worker, folder, max(warmup, 1), run.tick)
        spent_s = [meter.read_s() for meter in meters]
        end = wait_for(worker, folder, upto, run.tick)
        if last:
            time.sleep(SETTLE_S)
        spent_s = [meter.read_s() - before_s for meter, before_s in zip(meters, spent_s, strict=True)]
        worker.check()
        worker.stop()
    counted = end.tasks - start.tasks
    if counted < 1 or end.last_s <= start.last_s:
        raise EngineError(
            "too few tasks to measure: all ended before the clock could start; give more --tasks"
        )
    worker_us, *broker_us = [value / counted * 1e6 for value in spent_s]
    return Sample(
        rate=counted / (end.last_s - start.last_s),
        worker_us=worker_us,
        broker_us=broker_us[0] if broker_us else None,
    )


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
    **{f"growth-{name}": partial(growth, depth) for name, depth in GROWTH_DEPTHS.items()},
}
