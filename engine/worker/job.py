"""One claimed message on its way through a child, and what a child knows of a task's name."""

from __future__ import annotations

from typing import Any

from engine.codec import TaskMessage
from engine.task import overridden
from engine.work import Job, Known, Outcome, Pace
from engine.worker.limits import resolve
from engine.worker.prefetch import LONG_S, SHORT_S

__all__ = ["ACK", "DROP", "NOTHING", "REQUEUE", "Job", "KnownTask", "finish_of"]

# what is to be done with the message, once its outcome is safe
ACK, REQUEUE, DROP, NOTHING = range(4)


class KnownTask(Known):
    """A registered task with all that does not change between runs, looked up once."""

    def __init__(self, task: Any, conf: Any, hard_s: float | None, soft_s: float | None) -> None:
        super().__init__(task, Pace(SHORT_S, LONG_S), overridden(task))
        self.acks_early = bool(getattr(task, "acks_early", False))
        on_failure = _first(
            getattr(task, "acks_on_failure_or_timeout", None), conf.task_acks_on_failure_or_timeout
        )
        self.acks_on_failure = bool(_first(conf.task_acks_on_failure, on_failure))
        self.acks_on_timeout = bool(_first(conf.task_acks_on_timeout, on_failure))
        self.requeue_when_lost = getattr(task, "reject_on_worker_lost", None) is not False
        self.hard_s = resolve(getattr(task, "time_limit", None), hard_s)
        self.soft_s = resolve(getattr(task, "soft_time_limit", None), soft_s)
        self.stores = not getattr(task, "ignore_result", False)
        self.stores_errors = bool(getattr(task, "store_errors_even_if_ignored", False))
        self.track_started = bool(getattr(task, "track_started", False))
        self.careful = self.acks_early or self.track_started  #: something has to happen before each run

    def keeps(self, message: TaskMessage) -> bool:
        """Whether the result of this call is stored: its own word counts before the task's."""
        ignored = message.ignore_result
        return self.stores if ignored is None else not ignored

    def keeps_errors(self, message: TaskMessage) -> bool:
        return self.stores_errors or self.keeps(message)


def finish_of(outcome: Outcome, known: KnownTask | None) -> int:
    """What an outcome means for the message (Celery's acks_on_failure and friends)."""
    if outcome.state == "REJECTED":
        return REQUEUE if outcome.requeue else DROP
    if outcome.state == "FAILURE" and known is not None and not known.acks_on_failure:
        return DROP
    return ACK


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)
