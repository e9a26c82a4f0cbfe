"""What one must know to read the figures: how each side is set up, and what it does not do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.bench.cpu import BrokerProcess
from engine.bench.plan import Plan
from engine.bench.sides import DRAMATIQ_PREFETCH, Side

#: Where publishing is a part of what is measured.
_PUBLISHING = frozenset({"publish", "publish-many", "roundtrip"})


def notes(
    plan: Plan, workloads: Sequence[str], sides: Sequence[Side], broker: BrokerProcess | None
) -> list[str]:
    """The lines below the tables."""
    found = [f"results {'on' if plan.results else 'off'}; CPU figures are µs of user and system time a task"]
    if broker is None and plan.scheme not in ("sqlite", "memory"):
        found.append("the broker's process cannot be seen from here, so its CPU is not in the table")
    names = {side.name for side in sides}
    if plan.lean and names - {"engine", "raw"}:
        found.append(
            "the engine leaves out headers that say nothing; --full-headers sends all, as Celery does"
        )
    for side in sides:
        if side.name in _BY_SIDE:
            found += _BY_SIDE[side.name](plan, workloads)
        left_out = [workload for workload in workloads if workload in side.lacks]
        if left_out:
            found.append(f"{side.name} has no part in {', '.join(left_out)}")
    return found


def _celery(plan: Plan, workloads: Sequence[str]) -> Iterator[str]:
    yield "Celery acknowledges before the work by default, the engine after it"
    if plan.confirm and plan.on_amqp and _PUBLISHING.intersection(workloads):
        yield "Celery publishes with confirms here too, which it does not by default"
    if "publish-many" in workloads:
        yield "Celery has no batch publish: it publishes one by one in publish-many as well"


def _dramatiq(plan: Plan, workloads: Sequence[str]) -> Iterator[str]:
    prefetch = f", and prefetches {DRAMATIQ_PREFETCH} messages in consume" if "consume" in workloads else ""
    yield f"dramatiq runs 1 thread a process{prefetch}; it acknowledges after the work"
    if plan.confirm and plan.on_amqp and _PUBLISHING.intersection(workloads):
        yield "dramatiq publishes with confirms here too, which it does not by default"
    if "publish-many" in workloads:
        yield "dramatiq has no batch publish: it publishes one by one in publish-many as well"


def _huey(plan: Plan, workloads: Sequence[str]) -> Iterator[str]:
    yield "huey has no acknowledgement: a task is off the queue before its work, and lost with its process"
    if plan.scheme == "sqlite":
        yield "huey waits for the disk at every transaction (fsync), the engine when it publishes"
    if "publish-many" in workloads:
        yield "huey has no batch publish: it publishes one by one in publish-many as well"


def _raw(plan: Plan, workloads: Sequence[str]) -> Iterator[str]:
    yield "raw is the broker by itself: bytes made ahead of time, received ones counted in batches, not run"
    if plan.confirm and plan.on_amqp and "publish" in workloads:
        yield "raw waits for each confirm in publish, and has --batch of them in flight in publish-many"


_BY_SIDE = {"celery": _celery, "dramatiq": _dramatiq, "huey": _huey, "raw": _raw}
