"""What every workload needs: the run it measures, the sample it gives, filling a queue, waiting for tasks."""

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

SETTLE_S = 0.2  # acknowledgements of the last tasks go out within this
STALL_S = 60.0  # a worker that ends no task for so long has failed
POLL_S = 0.005

Tick = Callable[[int], None]  # how many tasks of this run are done


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run measured. CPU in µs a task; None where there was nothing of that kind, or it was not
    seen. ``more`` has figures that one workload alone measures, by their key in the report."""

    rate: float | None = None
    publisher_us: float | None = None
    worker_us: float | None = None
    broker_us: float | None = None
    latencies_ms: list[float] = field(default_factory=list)
    more: dict[str, float] = field(default_factory=dict)
    tasks: int | None = None  #: where the workload chose another number than the plan's


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


def wait_until_arrived(run: Run, messages: int) -> None:
    """Until the queues hold so many. Raises EngineError when it never does.

    Rivals with Redis keys or files of their own wait for each answer anyhow."""
    if run.side.name not in ("engine", "celery") and not run.plan.on_amqp:
        return
    transport = open_transport(run.plan.broker)
    try:
        deadline_s = time.monotonic() + STALL_S
        while sum(transport.queue_state(name).ready for name in run.plan.queue_names) < messages:
            if time.monotonic() > deadline_s:
                raise EngineError(f"not all messages have arrived after {STALL_S:.0f} s")
            time.sleep(POLL_S)
    finally:
        transport.close()


def fill(run: Run, messages: int, deed: str = "publish-many") -> None:
    """Put so many tasks on the queue. That is not measured, so RabbitMQ need not confirm each."""
    with filler(run) as publisher:
        publisher.ask(deed, messages)
        wait_until_arrived(run, messages)


def filler(run: Run) -> Publisher:
    """A publishing process whose work is not measured."""
    plan = replace(run.plan, confirm=run.plan.confirm and not run.plan.on_amqp)
    return Publisher(run.side.module, plan, run.side.name)


def drain(run: Run, warmup: int, upto: int, *, last: bool) -> Sample:
    """Start the worker, and measure from the warm-up's end until so many tasks have ended."""
    with run.worker() as worker:
        sample = drained_by(worker, run, warmup, upto, last=last)
        worker.stop()
    return sample


def drained_by(worker: Worker, run: Run, warmup: int, upto: int, *, last: bool) -> Sample:
    """Measure a worker from the warm-up's end until so many tasks have ended.

    ``last``: there are no more, so that what is done for them after their end can be waited for."""
    folder = Path(run.plan.folder)
    meters = [worker.meter, *([run.meter] if run.meter else [])]
    start = wait_for(worker, folder, max(warmup, 1), run.tick)
    spent_s = [meter.read_s() for meter in meters]
    end = wait_for(worker, folder, upto, run.tick)
    if last:
        time.sleep(SETTLE_S)
    spent_s = [meter.read_s() - before_s for meter, before_s in zip(meters, spent_s, strict=True)]
    worker.check()
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


def wait_for(worker: Worker, folder: Path, tasks: int, tick: Tick) -> Progress:
    """Until so many tasks have ended. Raises EngineError when the worker dies or stalls."""
    done, changed_s = read_tallies(folder), time.monotonic()
    while done.tasks < tasks:
        time.sleep(POLL_S * (1 + done.processes // 4))  # looking at many is not to cost them their CPU
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
