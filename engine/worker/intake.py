"""What is to be done with a message before any of its code runs. Nothing is ever dropped in silence.

In this order: unreadable or of a content type that is not accepted → dead letter, and a failure for its
caller; a tombstone, finished already, or revoked → settled without running; not due yet → parked at the
broker; expired → REVOKED; a task of unknown name → put off for a while (a rolling deploy), then failed and
dead-lettered. What is left is to be run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from engine.codec import Delivery, TaskMessage
from engine.errors import ContentDisallowed, NotRegistered, TaskRevoked
from engine.work import Job, Outcome, Sorter
from engine.worker import announcing, deadletter
from engine.worker.fate import WAS_REVOKED, Fate
from engine.worker.job import DROP, KnownTask
from engine.worker.logs import clean
from engine.worker.outcomes import by_tombstone, failure
from engine.worker.quarantine import CRASHED, TERMINATED, TIME_LIMIT, WORKER_LOST, Tombstone

log = logging.getLogger("engine.worker")

#: brokers' clocks and ours differ by milliseconds: what is due within this is due
EARLY_S = 0.020
_PUT_OFF_S = 5.0


class Intake(Sorter):
    """Sorts the deliveries of one child.

    Args:
        known: the tasks this child has met; ``find`` looks a further one up and adds it.
        settle: takes a job whose outcome is decided here.
        park: puts a delivery away at the broker until a time (unix seconds).
        declare_dead: makes sure that a dead-letter queue exists.
        succeeded: whether the store has a SUCCESS of that id (worker_deduplicate_successful_tasks); None: run
            what is delivered again.
    """

    def __init__(
        self,
        app: Any,
        known: dict[str, KnownTask],
        find: Callable[[str], KnownTask | None],
        fate: Fate,
        settle: Callable[[Job], object],
        park: Callable[[Delivery, float], None],
        declare_dead: Callable[[str], None],
        hostname: str,
        can_delay: bool,
        succeeded: Callable[[str], bool] | None = None,
    ) -> None:
        super().__init__(app.decode, known, find, fate.tombstones, fate.revoked)
        self._fate = fate
        self._settle = settle
        self._park = park
        self._declare_dead = declare_dead
        self._hostname = hostname
        self._succeeded = succeeded
        self._dead_queue: str | None = app.conf.worker_dead_letter_queue
        self._grace_s: float = app.conf.worker_unknown_task_grace if can_delay else 0.0

    # -- redeliveries, and what was revoked ----------------------------------------------------------------

    def decided_already(self, job: Job) -> bool:
        """Whether it was settled here: a redelivery, or one of a task that was revoked."""
        message, known = job.message, job.known
        verdict = self._fate.of(message, job.delivery.redelivered)
        if isinstance(verdict, Tombstone):
            job.tombstone_id = verdict.task_id
            if verdict.kind == CRASHED and (known is None or known.requeue_when_lost):
                verdict = None
        if verdict is None and not self._succeeded_before(job):
            return False
        if isinstance(verdict, Tombstone):
            self._entomb(job, verdict)
        elif verdict is WAS_REVOKED:
            self._revoke(job)
        else:
            log.info("Task %s[%s] was finished before: acknowledged", clean(message.task), clean(message.id))
            job.outcome = Outcome("IGNORED", store=False)
        self._settle(job)
        return True

    def _revoke(self, job: Job) -> None:
        message, known = job.message, job.known
        log.info("Task %s[%s] was revoked: not run", clean(message.task), clean(message.id))
        if message.id in self._fate.tombstones:
            job.tombstone_id = message.id
        job.outcome = Outcome("REVOKED", TaskRevoked("revoked"), store=_stores(job))
        announcing.revoked(known.task if known is not None else None, message)

    def _succeeded_before(self, job: Job) -> bool:
        """Its SUCCESS is stored. A task with follow-ups is run again: its result is stored before they are
        sent, so the one does not prove the other."""
        message = job.message
        if self._succeeded is None or not job.delivery.redelivered:
            return False
        if message.callbacks or message.chain or message.chord:
            return False
        return self._succeeded(message.id)

    def _entomb(self, job: Job, tombstone: Tombstone) -> None:
        outcome = by_tombstone(tombstone)
        if tombstone.kind == WORKER_LOST:
            self._bury(job, outcome, "worker lost", tombstone.detail)
        elif tombstone.kind == TIME_LIMIT and job.known is not None and not job.known.acks_on_timeout:
            job.finish = DROP
        elif tombstone.kind == TERMINATED:
            announcing.revoked(
                job.known.task if job.known is not None else None, job.message, tombstone.signum
            )
        outcome.store = _stores(job)
        job.outcome = outcome

    # -- time ------------------------------------------------------------------------------------------

    def timely(self, delivery: Delivery, message: TaskMessage, known: KnownTask | None) -> bool:
        """Whether a message with an ETA or an expiry is to be run now; if not, it is dealt with here."""
        now = time.time()
        try:
            expires = unix_time(message.expires)
            due_at = unix_time(message.eta)
        except ValueError as error:
            self.unreadable(delivery, error)
            return False
        if expires is not None and expires <= now:
            log.info("Task %s[%s] has expired: not run", clean(message.task), clean(message.id))
            job = Job(delivery, message, known)
            job.outcome = Outcome("REVOKED", TaskRevoked("expired"), store=_keeps(known, message))
            announcing.expired(known.task if known is not None else None, message)
            self._settle(job)
            return False
        if due_at is not None and due_at > now + EARLY_S:
            self._park(delivery, due_at)
            return False
        return True

    # -- what cannot be run ----------------------------------------------------------------------------

    def unknown(self, delivery: Delivery, message: TaskMessage) -> None:
        """Deal with a message whose task is not registered."""
        now = time.time()
        since = delivery.header(deadletter.UNKNOWN_SINCE)
        first_seen = float(since) if isinstance(since, (int, float)) else now
        job = Job(delivery, message, None)
        left_s = first_seen + self._grace_s - now
        if left_s > 0:
            if since is None:
                log.warning(
                    "no task named %s here: message %s is put off for %g s at most",
                    clean(message.task),
                    clean(message.id),
                    self._grace_s,
                )
            job.outcome = Outcome("IGNORED", store=False)
            job.outcome.publish = [deadletter.postponed(delivery, first_seen, now + min(_PUT_OFF_S, left_s))]
        else:
            error = NotRegistered(message.task)
            job.outcome = failure(error)
            announcing.unknown(message.task, message.id, delivery, error)
            self._bury(job, job.outcome, "unknown task", f"no task named {message.task!r} is registered")
        self._settle(job)

    def unreadable(self, delivery: Delivery, error: Exception) -> None:
        """Deal with a message that says no task."""
        reason = "content type not accepted" if isinstance(error, ContentDisallowed) else "unreadable"
        task_id = delivery.header("id")
        tells_id = isinstance(task_id, str) and bool(task_id)
        message = TaskMessage(str(delivery.header("task", "")), task_id if tells_id else "")
        job = Job(delivery, message, None)
        job.outcome = failure(error, store=tells_id)
        self._bury(job, job.outcome, reason, str(error))
        self._settle(job)

    def _bury(self, job: Job, outcome: Outcome, reason: str, error: str) -> None:
        queue = self._dead_queue or f"{deadletter.queue_of(job.delivery)}.dead"
        message = job.message
        log.error(
            "a message of queue %s goes to %s: %s%s: %s",
            clean(deadletter.queue_of(job.delivery)),
            clean(queue),
            f"task {clean(message.task)}[{clean(message.id)}]: " if message.task or message.id else "",
            reason,
            clean(error, 500),
        )
        self._declare_dead(queue)
        letter = deadletter.dead_letter(job.delivery, queue, reason, error, self._hostname)
        outcome.publish = [*outcome.publish, letter]


def _stores(job: Job) -> bool:
    """Whether an outcome that no run made is stored."""
    return _keeps(job.known, job.message) or (job.known is not None and job.known.stores_errors)


def _keeps(known: KnownTask | None, message: TaskMessage) -> bool:
    """Whether a result is stored; of a task that is not known here too."""
    return known.keeps(message) if known is not None else not message.ignore_result


def unix_time(text: Any) -> float | None:
    """Unix seconds of an ISO 8601 time; without an offset it is UTC. Raises ValueError for anything else."""
    if text is None:
        return None
    if isinstance(text, datetime):
        moment = text
    elif isinstance(text, str):
        moment = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith(("Z", "z")) else text)
    else:
        raise ValueError(f"not a time: {clean(repr(text))}")
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return moment.timestamp()
