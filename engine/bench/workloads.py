"""The workloads: what one run of one side does, and what is measured while it does it. One function each.

``publish`` one task after the other, ``publish-many`` in batches, ``consume`` from a full queue,
``roundtrip`` one at a time on an idle system, ``codec`` in memory. Each has a queue and a folder of its
own, removed afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from engine.bench.cpu import BrokerProcess, CpuMeter
from engine.bench.plan import Plan
from engine.bench.processes import Publisher, Worker
from engine.bench.sides import Side
from engine.bench.tally import Progress, read_tallies
from engine.errors import EngineError
from engine.transport import open_transport

STALL_S = 60.0  # a worker that ends no task for so long has failed
POLL_S = 0.005
SETTLE_S = 0.2  # acknowledgements of the last tasks go out within this

Tick = Callable[[int], None]  # how many tasks of this run are done


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run measured. CPU in µs a task; None where there was nothing of that kind, or it was not
    seen."""

    rate: float
    publisher_us: float | None = None
    worker_us: float | None = None
    broker_us: float | None = None
    latencies_ms: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one side: its plan with its own folder and queue, the broker's process if it can be seen."""

    side: Side
    plan: Plan
    broker: BrokerProcess | None
    tick: Tick

    @property
    def meter(self) -> CpuMeter | None:
        return self.broker.meter() if self.broker else None

    def worker(self) -> Worker:
        """The side's worker, started."""
        plan, side = self.plan, self.side
        environ = {**plan.to_env(), **side.environ(plan)}
        return Worker(side.worker(plan), Path(plan.folder), environ, side.name)

    def publisher(self) -> Publisher:
        """The side's publishing process, started."""
        return Publisher(self.side.module, self.plan, self.side.name)


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
            _wait_until_arrived(run, plan.warmup + plan.tasks)
            elapsed_s = time.monotonic() - start_s
        broker_s = meter.read_s() - before_s if meter else None
    run.tick(plan.tasks)
    return Sample(
        rate=plan.tasks / elapsed_s,
        publisher_us=spent["cpu_s"] / plan.tasks * 1e6,
        broker_us=None if broker_s is None else broker_s / plan.tasks * 1e6,
    )


def _wait_until_arrived(run: Run, messages: int) -> None:
    """Until the queue holds so many. Raises EngineError when it never does.

    Rivals with Redis keys or files of their own wait for each answer anyhow."""
    if run.side.name not in ("engine", "celery") and not run.plan.on_amqp:
        return
    transport = open_transport(run.plan.broker)
    try:
        deadline_s = time.monotonic() + STALL_S
        while transport.queue_state(run.plan.queue).ready < messages:
            if time.monotonic() > deadline_s:
                raise EngineError(f"not all messages have arrived after {STALL_S:.0f} s")
            time.sleep(POLL_S)
    finally:
        transport.close()


def fill(run: Run, messages: int) -> None:
    """Put so many tasks on the queue. That is not measured, so RabbitMQ need not confirm each."""
    plan = replace(run.plan, confirm=run.plan.confirm and not run.plan.on_amqp)
    with Publisher(run.side.module, plan, run.side.name) as publisher:
        publisher.ask("publish-many", messages)
        _wait_until_arrived(run, messages)


def consume(run: Run) -> Sample:
    """The queue is full before the worker starts; counted from the warm-up's end to the last task's."""
    plan, folder = run.plan, Path(run.plan.folder)
    total = plan.warmup + plan.tasks
    fill(run, total)
    with run.worker() as worker:
        meters = [worker.meter, *([run.meter] if run.meter else [])]
        start = _wait_for(worker, folder, max(plan.warmup, 1), run.tick)
        start_s, spent_s = time.monotonic(), [meter.read_s() for meter in meters]
        end = _wait_for(worker, folder, total, run.tick)
        time.sleep(SETTLE_S)
        spent_s = [meter.read_s() - before_s for meter, before_s in zip(meters, spent_s, strict=True)]
        worker.check()
        worker.stop()
    counted = end.tasks - start.tasks
    if read_tallies(folder).tasks < total or counted < 1 or end.last_s <= start_s:
        raise EngineError(
            f"too few tasks to measure: {plan.tasks} ended before the clock could start; give more"
        )
    worker_us, *broker_us = [value / counted * 1e6 for value in spent_s]
    return Sample(
        rate=counted / (end.last_s - start_s),
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


def _wait_for(worker: Worker, folder: Path, tasks: int, tick: Tick) -> Progress:
    """Until so many tasks have ended. Raises EngineError when the worker dies or stalls."""
    done, changed_s = read_tallies(folder), time.monotonic()
    while done.tasks < tasks:
        time.sleep(POLL_S)
        now = read_tallies(folder)
        if now.tasks > done.tasks:
            changed_s = time.monotonic()
            tick(now.tasks)
        done = now
        worker.check()
        if time.monotonic() - changed_s > STALL_S:
            reached = f"after {done.tasks} of {tasks}"
            raise EngineError(f"the worker ended no task for {STALL_S:.0f} s, {reached}: {worker.log_tail()}")
    return done


BY_NAME: dict[str, Callable[[Run], Sample]] = {
    "codec": codec,
    "publish": publish,
    "publish-many": publish_many,
    "consume": consume,
    "roundtrip": roundtrip,
}
