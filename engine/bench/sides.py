"""Who is measured: the engine, and Celery as the rival. A side says how its processes are started."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

from engine.bench.plan import Plan
from engine.errors import ConfigurationError, MissingExtra, install_hint


@dataclass(frozen=True, slots=True)
class Side:
    """One contestant. ``module`` holds its app and its publishing client."""

    name: str
    module: str
    worker: Callable[[Plan], list[str]]  #: arguments of the Python interpreter
    check: Callable[[Plan], None]  #: raises ConfigurationError when it cannot take part


def _engine_worker(plan: Plan) -> list[str]:
    command = ["-m", "engine", "run", f"{ENGINE.module}:app", "-c", str(plan.concurrency), "-Q", plan.queue]
    return [*command, "-l", "warning", *plan.worker_args]


def _celery_worker(plan: Plan) -> list[str]:
    command = ["-m", "celery", "-A", f"{CELERY.module}:app", "worker", "-c", str(plan.concurrency)]
    return [*command, "-Q", plan.queue, "-l", "WARNING", "-n", f"{plan.queue}@%h", *plan.celery_args]


def _check_celery(plan: Plan) -> None:
    if find_spec("celery") is None:
        raise MissingExtra(f"Celery is not there: {install_hint('bench')}, or leave out --against celery")
    scheme = plan.broker.partition(":")[0]
    if scheme in ("sqlite", "memory"):
        raise ConfigurationError(
            f"Celery has no {scheme}:// broker to compare on: give --broker amqp://... or redis://..."
        )


ENGINE = Side("engine", "engine.bench.engine_app", _engine_worker, lambda plan: None)
CELERY = Side("celery", "engine.bench.celery_app", _celery_worker, _check_celery)

BY_NAME = {side.name: side for side in (ENGINE, CELERY)}
