"""One claimed message on its way through a child, and what a child knows of a task's name."""

from __future__ import annotations

from typing import Any

from engine.codec import Delivery, TaskMessage
from engine.model import Outcome
from engine.worker.limits import resolve
from engine.worker.prefetch import Pace

# what is to be done with the message, once its outcome is safe
ACK, REQUEUE, DROP, NOTHING = range(4)


class KnownTask:
    """A registered task with all that does not change between runs, looked up once."""

    __slots__ = (
        "acks_early",
        "acks_on_failure",
        "acks_on_timeout",
        "careful",
        "hard_s",
        "name",
        "name_bytes",
        "pace",
        "requeue_when_lost",
        "soft_s",
        "stores",
        "stores_errors",
        "task",
        "track_started",
    )

    def __init__(self, task: Any, conf: Any, hard_s: float | None, soft_s: float | None) -> None:
        self.task = task
        self.name: str = task.name
        self.name_bytes = task.name.encode("utf-8", "replace")
        self.pace = Pace()
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


_UNDECIDED = Outcome("PENDING", store=False)


class Job:
    """A delivery, its task message (without name and id when it could not be read), and how it ended."""

    __slots__ = ("children", "delivery", "finish", "known", "message", "outcome", "tombstone_id")

    def __init__(self, delivery: Delivery, message: TaskMessage, known: KnownTask | None) -> None:
        self.delivery = delivery
        self.message = message
        self.known = known
        self.outcome: Outcome = _UNDECIDED  # shared and never changed: replaced when the job has run
        self.finish = ACK
        self.children: list[Any] | None = None  #: the tasks it sent, as its result's meta tells them
        self.tombstone_id: str | None = None  #: its tombstone may be taken down once this is settled


def finish_of(outcome: Outcome, known: KnownTask | None) -> int:
    """What an outcome means for the message (Celery's acks_on_failure and friends)."""
    if outcome.state == "REJECTED":
        return REQUEUE if outcome.requeue else DROP
    if outcome.state == "FAILURE" and known is not None and not known.acks_on_failure:
        return DROP
    return ACK


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)
