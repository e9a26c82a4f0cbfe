"""Who is measured: the engine, its rivals, and the broker by itself.

A side says how its processes are started. A rival runs as its users start it; what is set for it besides is
told in the bench's notes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from engine.bench.plan import AMQP_SCHEMES, WORKLOADS, Plan
from engine.errors import ConfigurationError, MissingExtra, install_hint

REDIS_SCHEMES = ("redis", "rediss")

#: What dramatiq prefetches for each thread where throughput is measured; its own default is 2.
DRAMATIQ_PREFETCH = 250

#: Workloads that no rival is set up for.
_OWN = frozenset(name for family in ("children", "queues", "tasks") for name in WORKLOADS[f"growth-{family}"])

GROWTH_PREFETCH = 100

_EXAMPLES = {"amqp": "--broker amqp://...", "redis": "--broker redis://...", "sqlite": "none for SQLite"}


@dataclass(frozen=True, slots=True)
class Side:
    """One contestant. ``module`` holds its app and its publishing client."""

    name: str
    module: str
    worker: Callable[[Plan], list[str]]  #: arguments of the Python interpreter
    check: Callable[[Plan], None]  #: raises ConfigurationError when it cannot take part
    environ: Callable[[Plan], Mapping[str, str]] = lambda plan: {}  #: for its worker
    lacks: frozenset[str] = frozenset()  #: workloads it has no part in
    depth: int = 1  #: so many times the tasks in consume, for a side that is through too soon to be timed


def _engine_worker(plan: Plan) -> list[str]:
    command = ["-m", "engine", "run", f"{ENGINE.module}:app", "-c", str(plan.concurrency)]
    if plan.queued:  # a prefetch that still adapts is not to look like growth
        command += ["--prefetch", str(GROWTH_PREFETCH)]
    return [*command, "-Q", ",".join(plan.queue_names), "-l", "warning", *plan.worker_args]


def _celery_worker(plan: Plan) -> list[str]:
    command = ["-m", "celery", "-A", f"{CELERY.module}:app", "worker", "-c", str(plan.concurrency)]
    return [*command, "-Q", plan.queue, "-l", "WARNING", "-n", f"{plan.queue}@%h", *plan.celery_args]


def _dramatiq_worker(plan: Plan) -> list[str]:
    command = ["-m", "dramatiq", DRAMATIQ.module, "--processes", str(plan.concurrency), "--threads", "1"]
    return [*command, "--queues", plan.queue]


def _dramatiq_environ(plan: Plan) -> Mapping[str, str]:
    return {"dramatiq_queue_prefetch": str(DRAMATIQ_PREFETCH)} if plan.workload == "consume" else {}


def _huey_worker(plan: Plan) -> list[str]:
    command = ["-m", "huey.bin.huey_consumer", f"{HUEY.module}.huey", "--workers", str(plan.concurrency)]
    return [*command, "--worker-type", "process", "--graceful-signal", "TERM", "--quiet"]


def _raw_worker(plan: Plan) -> list[str]:
    return ["-m", "engine.bench.raw_worker"]


def _check_celery(plan: Plan) -> None:
    _require("celery", "Celery", "celery")
    _speaks(plan, "celery", "Celery", AMQP_SCHEMES + REDIS_SCHEMES)


def _check_dramatiq(plan: Plan) -> None:
    _speaks(plan, "dramatiq", "dramatiq", ("amqp", "amqps", *REDIS_SCHEMES))
    _require("dramatiq", "dramatiq", "dramatiq")
    if plan.on_amqp:
        _require("dramatiq", "dramatiq's RabbitMQ client pika", "pika")
        if plan.queue_type != "classic":
            raise ConfigurationError(
                f"dramatiq declares no {plan.queue_type} queues: leave out --queue-type or --against dramatiq"
            )
    if plan.results and not plan.results.startswith(REDIS_SCHEMES):
        raise ConfigurationError("dramatiq keeps results in Redis here: give --results redis://...")


def _check_huey(plan: Plan) -> None:
    _speaks(plan, "huey", "huey", (*REDIS_SCHEMES, "sqlite"))
    _require("huey", "huey", "huey")
    if plan.results and plan.results.partition(":")[0].removeprefix("db+") != plan.scheme:
        raise ConfigurationError(
            f"huey keeps results in its broker alone: give --results {plan.scheme}://..., or leave out "
            "--against huey"
        )


def _check_raw(plan: Plan) -> None:
    _speaks(plan, "raw", "raw", ("amqp", "pyamqp", "redis", "sqlite"))
    if plan.scheme == "redis":
        _require("raw", "hiredis", "hiredis")
    if plan.results:
        raise ConfigurationError("raw keeps no results: leave out --results or --against raw")


def _require(side: str, label: str, module: str) -> None:
    if find_spec(module) is None:
        raise MissingExtra(
            f"{label} is not installed here: {install_hint('bench')}, or leave out --against {side}"
        )


def _speaks(plan: Plan, side: str, label: str, schemes: tuple[str, ...]) -> None:
    if plan.scheme not in schemes:
        brokers = " or ".join(_EXAMPLES[scheme] for scheme in _EXAMPLES if scheme in schemes)
        raise ConfigurationError(
            f"{label} has no {plan.scheme}:// broker to compare on: give {brokers}, or leave out "
            f"--against {side}"
        )


ENGINE = Side("engine", "engine.bench.engine_app", _engine_worker, lambda plan: None)
CELERY = Side("celery", "engine.bench.celery_app", _celery_worker, _check_celery, lacks=_OWN)
DRAMATIQ = Side(
    "dramatiq",
    "engine.bench.dramatiq_app",
    _dramatiq_worker,
    _check_dramatiq,
    environ=_dramatiq_environ,
    lacks=_OWN,
)
HUEY = Side("huey", "engine.bench.huey_app", _huey_worker, _check_huey, lacks=_OWN)
RAW = Side(
    "raw",
    "engine.bench.raw_app",
    _raw_worker,
    _check_raw,
    lacks=(_OWN - set(WORKLOADS["growth-children"])) | {"codec", *WORKLOADS["sharing"]},
    depth=10,
)

BY_NAME = {side.name: side for side in (ENGINE, CELERY, DRAMATIQ, HUEY, RAW)}
