"""What a bench is asked to do, as one value that travels to the processes it starts."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from engine.bench.points import FAMILIES, POINTS
from engine.errors import ConfigurationError

#: The environment variable that carries the plan to publishers and workers.
PLAN_ENV = "ENGINE_BENCH_PLAN"

#: What can be asked for, and the workloads that stand for it.
_QUICK = ("codec", "publish", "publish-many", "consume", "roundtrip", "start")
WORKLOADS: dict[str, tuple[str, ...]] = {
    "all": _QUICK,
    **{name: (name,) for name in (*_QUICK, "idle", "memory")},
    "sharing": tuple(f"sharing-{letter}" for letter in "abcde"),
    **{family: tuple(points) for family, points in FAMILIES.items()},
}
WORKLOADS |= {name: (name,) for name in (*WORKLOADS["sharing"], *POINTS)}

#: Who can be compared with.
RIVALS = ("celery", "dramatiq", "huey", "raw")

_AT_ONCE_BYTES = 4_000_000

AMQP_SCHEMES = ("amqp", "amqps", "pyamqp")


@dataclass(frozen=True, slots=True)
class Plan:
    """One bench. ``tasks`` counts the measured ones; ``warmup`` more come before them.

    Attributes:
        broker: broker URL of both sides.
        folder: where publishers, workers and bench meet (tallies, sockets, logs).
        queue: this run's own queue; deleted afterwards.
        workload: what this run measures; some sides are set up for it.
        confirm: publish with confirms (Celery: ``confirm_publish``, RabbitMQ only).
        lean: leave out headers that carry nothing (Celery always sends them all).
        queue_type: classic or quorum, RabbitMQ only.
        payload: bytes of one more argument to the task; 0 for none.
        queues: so many queues are consumed, the messages spread over them.
        names: so many tasks are registered, the messages spread over them.
        queued: so many messages wait in ``growth``.
        scale: how long the naps of ``sharing`` are, and how many, and how deep ``growth`` goes; 1 is the full
            length.
        idle_s: how long ``idle`` looks on.
        results: URL of a result store, or None: results are off.
    """

    broker: str
    folder: str = ""
    queue: str = ""
    workload: str = ""
    tasks: int = 10_000
    warmup: int = 1_000
    runs: int = 3
    concurrency: int = 1
    batch: int = 1_000
    payload: int = 0
    queues: int = 1
    names: int = 1
    queued: int = 0
    confirm: bool = True
    lean: bool = True
    queue_type: str = "classic"
    scale: float = 0.1
    idle_s: float = 5.0
    results: str | None = None
    worker_args: tuple[str, ...] = ()
    celery_args: tuple[str, ...] = ()

    def to_env(self) -> dict[str, str]:
        """The environment of a process that is to know the plan."""
        return {**os.environ, PLAN_ENV: json.dumps(asdict(self))}

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Plan:
        """The plan this process was given. Raises ConfigurationError when it was given none."""
        try:
            fields = json.loads(environ[PLAN_ENV])
        except KeyError:
            raise ConfigurationError(
                f"this is a part of `engine bench`, which sets {PLAN_ENV}: run that instead"
            ) from None
        for name in ("worker_args", "celery_args"):
            fields[name] = tuple(fields[name])
        return cls(**fields)

    @property
    def scheme(self) -> str:
        """The broker's kind, as its URL spells it."""
        return self.broker.partition(":")[0].lower()

    @property
    def on_amqp(self) -> bool:
        return self.scheme in AMQP_SCHEMES

    @property
    def queue_names(self) -> list[str]:
        """The run's own queues."""
        return [self.queue, *(f"{self.queue}-{number}" for number in range(1, self.queues))]

    def at_once(self, most: int) -> int:
        """How many messages to handle together, so that their bodies fit a few megabytes."""
        return max(1, min(most, _AT_ONCE_BYTES // max(self.payload, 1)))

    def at(self, folder: Path, queue: str) -> Plan:
        """The same plan for one run's own folder and queue."""
        return replace(self, folder=str(folder), queue=queue)

    def for_workload(self, workload: str) -> Plan:
        """The same with what that workload changes in it."""
        changes: dict[str, Any] = {"workload": workload, **POINTS.get(workload, {})}
        return replace(self, **changes)

    def scaled(self, share: float) -> Plan:
        """The same with fewer tasks, for a workload that waits for a round trip each time."""
        return replace(self, tasks=max(int(self.tasks * share), 1), warmup=max(int(self.warmup * share), 1))


def check(plan: Plan) -> Plan:
    """Raises ConfigurationError for figures that measure nothing."""
    for name in ("tasks", "runs", "concurrency", "batch"):
        if getattr(plan, name) < 1:
            raise ConfigurationError(f"--{name} must be at least 1, not {getattr(plan, name)}")
    for name in ("warmup", "payload"):
        if getattr(plan, name) < 0:
            raise ConfigurationError(f"--{name} must not be negative, but is {getattr(plan, name)}")
    for option, value in (("scale", plan.scale), ("idle", plan.idle_s)):
        if not 0 < value < float("inf"):
            raise ConfigurationError(f"--{option} must be above 0, not {value:g}")
    return plan
