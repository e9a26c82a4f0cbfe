"""Bodies from a hundred bytes to ten megabytes: published, then consumed, in tasks and in bytes a second.

Large ones are fewer, and fewer of them are in flight together.
"""

from __future__ import annotations

import time
from dataclasses import replace

from engine.bench.measuring import Run, Sample, drain, wait_until_arrived
from engine.bench.plan import Plan

_BYTES = 200_000_000  # of all the tasks of a run
_LEAST, _WARMUP = 20, 2
_JSON_SAMPLE = 20
_JSON_WAYS = (("out", "encode"), ("in", "decode"))


def bodies(run: Run) -> Sample:
    """One size."""
    plan = of_size(run.plan)
    run, total = replace(run, plan=plan), plan.tasks + plan.warmup
    with run.publisher() as publisher:
        publisher.ask("publish-many", plan.warmup)
        before_s = run.meter.read_s() if run.meter else 0.0
        start_s = time.monotonic()
        spent = publisher.ask("publish-many", plan.tasks)
        if not plan.confirm:
            wait_until_arrived(run, total)
        elapsed_s = time.monotonic() - start_s if not plan.confirm else spent["elapsed_s"]
        published_s = run.meter.read_s() - before_s if run.meter else 0.0
        wait_until_arrived(run, total)
        json = publisher.ask("json", _JSON_SAMPLE) if run.side.name == "engine" else None
    drained = drain(run, plan.warmup, total, last=True)
    published, per_task_mb = plan.tasks / elapsed_s, plan.payload / 1e6
    more = {"out_mb_s": published * per_task_mb}
    more["in_mb_s"] = (drained.rate or 0.0) * per_task_mb
    if json:
        more |= {f"json_{way}_us": json[f"{key}_s"] / _JSON_SAMPLE * 1e6 for way, key in _JSON_WAYS}
    broker_us = None if drained.broker_us is None else drained.broker_us + published_s / plan.tasks * 1e6
    return replace(
        drained,
        publisher_us=spent["cpu_s"] / plan.tasks * 1e6,
        broker_us=broker_us,
        more=more,
        tasks=plan.tasks,
    )


def of_size(plan: Plan) -> Plan:
    """The plan with as many tasks as bodies of that size allow."""
    tasks = max(min(plan.tasks, _BYTES // plan.payload), _LEAST)
    warmup = max(min(plan.warmup, tasks // 10), _WARMUP)
    return replace(plan, tasks=tasks, warmup=warmup, batch=plan.at_once(plan.batch))
