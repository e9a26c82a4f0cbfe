"""Running one task: its request, its limits, and the outcome. No transport, no store, no acknowledgement.

Whatever the task does, an `Outcome` comes back: what user code raises is the runner's business
(`engine.runner`), and what gets past that, a soft limit that strikes in its last line or ``SystemExit``, is
turned into a failure here. The plain way through is native (`engine.work.Executor`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.codec import Delivery, TaskMessage
from engine.context import Context
from engine.errors import SoftTimeLimitExceeded
from engine.signals import task_postrun, task_prerun, task_success
from engine.tracebacks import format_traceback
from engine.work import Executor, Job, Outcome, Runner, Running
from engine.worker.announcing import after_run, before_run
from engine.worker.limits import SoftLimit


class WorkerContext(Context):
    """The request of a task in a worker; what few tasks look at is made when they do."""

    called_directly = False

    def __init__(self, message: TaskMessage, delivery: Delivery, hostname: str) -> None:
        self.message = message
        self.hostname = hostname
        self.outbox = []
        self._delivery = delivery

    @property
    def delivery_info(self) -> Mapping[str, Any]:  # type: ignore[override]
        delivery = self._delivery
        return {
            "exchange": delivery.exchange,
            "routing_key": delivery.routing_key,
            "priority": delivery.properties.get("priority"),
            "redelivered": delivery.redelivered,
        }

    @property
    def properties(self) -> Mapping[str, Any]:  # type: ignore[override]
        return self._delivery.properties


class Execution(Executor):
    """Runs jobs of one app in this process."""

    def __init__(self, app: Any, runner: Runner, soft: SoftLimit, hostname: str) -> None:
        super().__init__(app, runner, soft, task_prerun, (task_success, task_postrun))
        self.hostname = hostname

    def request(self, message: TaskMessage, delivery: Delivery) -> WorkerContext:
        """The request of a task that asks for it."""
        return WorkerContext(message, delivery, self.hostname)

    def announce_before(self, job: Job) -> None:
        before_run(job.known.task, job.message)

    def announce_after(self, job: Job, running: Running, outcome: Outcome) -> None:
        after_run(running.task, job.message, running.request, outcome)

    def escaped(self, job: Job, error: BaseException, soft_s: float) -> Outcome:
        """What got past the runner. Not even KeyboardInterrupt stops the worker."""
        if isinstance(error, SoftTimeLimitExceeded) and not error.args:
            error.args = (soft_s,)
        return Outcome("FAILURE", error, format_traceback(error), job.known.keeps_errors(job.message))
