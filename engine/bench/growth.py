"""What a task costs when there is more of everything: messages queued, processes, queues, registered tasks.

Each is measured in several sizes (`points`), in turn; the cost is not to depend on the size.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from engine.bench import sqlite_writes
from engine.bench.measuring import Run, Sample, drain, drained_by, fill
from engine.bench.standstill import let_go, standstill

_DEPTH_WARMUP = 100
_DEPTH_TASKS = 5_000  # no more are counted at any depth, so that the depth stays what it is
_TASKS_EACH = 1_000  # a process's prefetch adapts within some hundreds
_RUNS_EACH = 5  # of a task's name: its pace is known, and what is looked up once has been


def depth(run: Run) -> Sample:
    """The first tasks of a queue so deep: what each costs is not to depend on how many wait."""
    queued = run.plan.queued
    upto = min(queued - _DEPTH_WARMUP, _DEPTH_TASKS)  # what is done at a queue's end is not in it
    if run.side.name == "engine":
        sample = _from_standstill(run, queued, _DEPTH_WARMUP, upto)
    else:  # these have no task that holds them: their start may fall into what is measured
        fill(run, queued)
        sample = drain(run, _DEPTH_WARMUP, upto, last=False)
    return replace(sample, tasks=upto - _DEPTH_WARMUP)


def spread(run: Run) -> Sample:
    """One worker on messages spread over many queues, or over the names of many tasks."""
    plan = run.plan
    warmup = max(plan.warmup, _RUNS_EACH * plan.names)
    fill(run, warmup + plan.tasks)
    return drain(run, warmup, warmup + plan.tasks, last=True)


def children(run: Run) -> Sample:
    """Many processes on one queue, let go at once when it is full; and on SQLite the longest write."""
    plan, folder = run.plan, Path(run.plan.folder)
    warmup = max(plan.warmup, _TASKS_EACH * plan.concurrency // 2)
    tasks = max(plan.tasks, _TASKS_EACH * plan.concurrency)
    sample = _from_standstill(run, warmup + tasks, warmup, warmup + tasks)
    longest_s = sqlite_writes.longest_s(folder)
    more = {} if longest_s is None else {"write_ms": longest_s * 1000}
    return replace(sample, tasks=tasks, more=more)


def _from_standstill(run: Run, queued: int, warmup: int, upto: int) -> Sample:
    """Hold all processes until the worker is up and the queue is full, then measure."""
    with standstill(run, "publish-many", queued) as worker:
        sqlite_writes.forget(Path(run.plan.folder))
        with let_go(run):
            sample = drained_by(worker, run, warmup, upto, last=upto == queued)
        worker.stop()
    return sample
