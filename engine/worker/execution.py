"""Running one task: its request, its limits, and the outcome. No transport, no store, no acknowledgement.

Whatever the task does, an `Outcome` comes back: what user code raises is the runner's business
(`engine.runner`), and what gets past that, a soft limit that strikes in its last line or ``SystemExit``, is
turned into a failure here.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from typing import Any

from engine.codec import Delivery, TaskMessage
from engine.context import Context
from engine.errors import SoftTimeLimitExceeded
from engine.model import Outcome
from engine.signals import task_postrun, task_prerun, task_success
from engine.worker.announcing import after_run, before_run
from engine.worker.job import Job
from engine.worker.limits import SoftLimit

Runner = Callable[[Any, Any, Context, Any], Outcome]


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


class Execution:
    """Runs jobs of one app in this process."""

    def __init__(self, app: Any, runner: Runner, soft: SoftLimit, hostname: str) -> None:
        self._app = app
        self._run = runner
        self._soft = soft
        self.hostname = hostname

    def run(self, job: Job, task: Any, soft_s: float) -> Outcome:
        """Run the job's task. ``soft_s`` 0.0 is no soft limit. Raises nothing."""
        message = job.message
        context = WorkerContext(message, job.delivery, self.hostname)
        if task_prerun.receivers:
            before_run(task, message)
        try:
            if soft_s:
                self._soft.arm(soft_s)
            outcome = self._run(self._app, task, context, message)
            if soft_s:
                self._soft.disarm()
        except BaseException as error:  # noqa: BLE001 - a task must not end its child by an exception
            if soft_s:
                self._soft.disarm()
            outcome = _escaped(error, soft_s)
            known = job.known
            outcome.store = known is None or known.keeps_errors(message)
        if task_success.receivers or task_postrun.receivers or outcome.state != "SUCCESS":
            after_run(task, message, context, outcome)
        if context._children:
            job.children = context.children_as_tuples()
        return outcome


def _escaped(error: BaseException, soft_s: float) -> Outcome:
    """What got past the runner. Not even KeyboardInterrupt stops the worker."""
    if isinstance(error, SoftTimeLimitExceeded) and not error.args:
        error.args = (soft_s,)
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return Outcome("FAILURE", error, text)
