"""Runs a bench: each workload, so many times, one side after the other in turn; and removes what it made.

Taking turns matters: a shared machine's speed drifts, and only figures taken side by side compare.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Protocol

from engine.bench import leftovers
from engine.bench.cpu import BrokerProcess, find_broker
from engine.bench.measuring import Run, Sample
from engine.bench.notes import notes
from engine.bench.plan import Plan, check
from engine.bench.points import FAMILIES, FAMILY_OF, within
from engine.bench.processes import ends_all
from engine.bench.report import Report, Row
from engine.bench.sides import Side
from engine.bench.stats import Spread, percentile, quantiles, spread
from engine.bench.versions import versions
from engine.bench.workloads import BY_NAME
from engine.transport import mask_url, open_transport

#: A workload that waits for each task does fewer of them, so that all take similar time.
SHARES = {"roundtrip": 0.1}


class Progress(Protocol):
    """Who is told how far the bench has come."""

    def begin(self, label: str, total: int) -> None:
        """A run of ``total`` tasks starts."""

    def reach(self, done: int) -> None:
        """So many of them are done."""


class Silent:
    """Tells nobody."""

    def begin(self, label: str, total: int) -> None:
        pass

    def reach(self, done: int) -> None:
        pass


def run(
    plan: Plan, workloads: Sequence[str], sides: Sequence[Side], progress: Progress | None = None
) -> Report:
    """Run all of it. Raises ConfigurationError before anything started, EngineError when a process fails."""
    check(plan)
    with ends_all(), tempfile.TemporaryDirectory(prefix="engine-bench-") as folder:
        plan = _with_broker(plan, Path(folder))
        for side in sides:
            side.check(plan)
        broker = find_broker(plan.broker)
        if workloads != ["codec"]:
            open_transport(plan.broker).close()  # a broker that is down is told now, in one line
        rows = []
        for together in in_turn(within(tuple(workloads), plan.scale)):
            rows += _rows(together, plan, sides, broker, Path(folder), progress or Silent())
        found = versions([side.name for side in sides], plan.broker)
    return Report(rows, parameters(plan, broker), found, notes=notes(plan, workloads, sides, broker))


def _with_broker(plan: Plan, folder: Path) -> Plan:
    return plan if plan.broker else replace(plan, broker=f"sqlite:///{folder}/bench.db")


def in_turn(workloads: Sequence[str]) -> list[list[str]]:
    """Workloads of one family are run in turn, each other one by itself."""
    groups: dict[str, list[str]] = {}
    for workload in workloads:
        groups.setdefault(FAMILY_OF.get(workload, workload), []).append(workload)
    return list(groups.values())


def _rows(
    workloads: Sequence[str],
    plan: Plan,
    sides: Sequence[Side],
    broker: BrokerProcess | None,
    folder: Path,
    progress: Progress,
) -> list[Row]:
    plans = {workload: plan.scaled(SHARES.get(workload, 1.0)) for workload in workloads}
    entries = [
        (workload, side, side_plan(plans[workload], workload, side))
        for workload in workloads
        for side in sides
        if workload not in side.lacks
    ]
    samples: dict[tuple[str, str], list[Sample]] = {}
    for number in range(plan.runs):
        for workload, side, own in entries:
            progress.begin(f"{workload}, {side.name}, run {number + 1} of {plan.runs}", own.tasks)
            sample = _one(own, side, broker, folder, progress)
            samples.setdefault((workload, side.name), []).append(sample)
    for side in sides:
        own_samples = [samples[workload, name] for workload, name in samples if name == side.name]
        if workloads[0].startswith("growth-") and len(own_samples) > 1:
            beside_smallest(own_samples)
    return [_row(workload, side, own.tasks, samples[workload, side.name]) for workload, side, own in entries]


def beside_smallest(sizes: Sequence[Sequence[Sample]]) -> None:
    """Adds to each sample how its cost compares with that of the smallest size in the same run."""
    for size in sizes:
        for sample, smallest in zip(size, sizes[0], strict=True):
            for key in ("worker", "broker"):
                mine, least = getattr(sample, f"{key}_us"), getattr(smallest, f"{key}_us")
                if mine is not None and least:
                    sample.more[f"{key}_ratio"] = mine / least


def _row(workload: str, side: Side, tasks: int, samples: Sequence[Sample]) -> Row:
    latencies = [latency for sample in samples for latency in sample.latencies_ms]
    return Row(
        workload,
        side.name,
        samples[0].tasks or tasks,
        len(samples),
        figures(samples),
        each=[{key: value.median for key, value in figures([sample]).items()} for sample in samples],
        quantiles_ms=quantiles(latencies),
    )


def side_plan(plan: Plan, workload: str, side: Side) -> Plan:
    """The plan of one side and workload. A side may take more tasks, but not on RabbitMQ, whose queues get
    slower when deep."""
    deeper = (
        workload == "consume" or workload in FAMILIES["bodies"] or workload in FAMILIES["growth-children"]
    )
    more = deeper and not plan.on_amqp
    plan = plan.for_workload(workload)
    return replace(plan, tasks=plan.tasks * side.depth) if more else plan


def _one(plan: Plan, side: Side, broker: BrokerProcess | None, folder: Path, progress: Progress) -> Sample:
    queue = f"bench-{side.name}-{secrets.token_hex(4)}"
    own = folder / queue
    own.mkdir()
    plan = plan.at(own, queue)
    try:
        return BY_NAME[plan.workload](Run(side, plan, broker, progress.reach))
    finally:
        if plan.workload != "codec":
            leftovers.remove(plan, side.name)


def figures(samples: Sequence[Sample]) -> dict[str, Spread]:
    """Medians and spreads over the runs; percentiles are taken in each run first."""
    found = {
        "rate": spread(sample.rate for sample in samples),
        "publisher_us": spread(sample.publisher_us for sample in samples),
        "worker_us": spread(sample.worker_us for sample in samples),
        "broker_us": spread(sample.broker_us for sample in samples),
    }
    for percent in (50, 95, 99):
        found[f"p{percent}_ms"] = spread(
            percentile(sample.latencies_ms, percent) for sample in samples if sample.latencies_ms
        )
    for key in {key: None for sample in samples for key in sample.more}:
        found[key] = spread(sample.more.get(key) for sample in samples)
    found["max_ms"] = spread(max(sample.latencies_ms) for sample in samples if sample.latencies_ms)
    return {key: value for key, value in found.items() if value is not None}


def parameters(plan: Plan, broker: BrokerProcess | None) -> dict[str, object]:
    """The plan as it is saved: without passwords and passing folders."""
    shown = asdict(plan)
    for name in ("folder", "queue", "workload", "queues", "names", "queued"):
        del shown[name]
    shown["broker"] = mask_url(plan.broker)
    shown["results"] = mask_url(plan.results) if plan.results else None
    shown["broker_process"] = broker.name if broker else None
    return shown
