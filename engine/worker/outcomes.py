"""An outcome as the result store's meta, and outcomes that no run of the task made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from engine.errors import TaskError, TaskRevoked, TimeLimitExceeded, WorkerLost
from engine.results.base import EXCEPTION_STATES, ResultMeta
from engine.stored_exceptions import exception_to_stored
from engine.work import Outcome
from engine.worker.job import Job
from engine.worker.quarantine import TERMINATED, TIME_LIMIT, Tombstone


def metas_of(jobs: Sequence[Job], hostname: str, extended: bool) -> list[ResultMeta]:
    """What is stored for these jobs. The failure of a chain's step is that of the steps after it too, as in
    Celery (mark_as_failure): whoever waits for the last one must hear of it."""
    metas = [meta_of(job, hostname, extended) for job in jobs]
    for job in [job for job in jobs if job.outcome.state == "FAILURE" and job.message.chain]:
        meta = meta_of(job, hostname, False)
        metas += (
            replace(
                meta,
                task_id=step["task_id"],
                children=[],
                group_id=step.get("group_id"),
                parent_id=step.get("parent_id"),
                reply_to=step.get("reply_to") or meta.reply_to,
                correlation_id=step["task_id"],
            )
            for step in _frozen(job.message.chain or ())
        )
    return metas


def _frozen(signatures: Iterable[Any]) -> Iterator[Mapping[str, Any]]:
    """The options of the signatures that have an id already, those within chains and groups too."""
    for sig in signatures:
        if isinstance(sig, Mapping):
            options, kwargs = sig.get("options") or {}, sig.get("kwargs") or {}
            if isinstance(options.get("task_id"), str):
                yield options
            if sig.get("subtask_type") in ("chain", "group"):
                yield from _frozen(kwargs.get("tasks") or ())


def meta_of(job: Job, hostname: str, extended: bool) -> ResultMeta:
    """What is stored for a job (it has a message and an outcome)."""
    message, outcome = job.message, job.outcome
    meta = ResultMeta(
        task_id=message.id,
        status=outcome.state,
        result=_stored(outcome),
        traceback=outcome.traceback,
        children=job.children or [],
        date_done=datetime.now(timezone.utc).isoformat(),
        group_id=message.group,
        parent_id=message.parent_id,
        reply_to=message.reply_to,
        correlation_id=message.correlation_id or message.id,
    )
    if extended:
        meta.extended = {
            "name": message.task,
            "args": list(message.args),
            "kwargs": dict(message.kwargs),
            "worker": hostname,
            "retries": message.retries,
            "queue": job.delivery.queue or job.delivery.routing_key,
        }
    return meta


def started(job: Job, hostname: str, pid: int) -> ResultMeta:
    """The STARTED state, in Celery's shape."""
    return ResultMeta(
        task_id=job.message.id,
        status="STARTED",
        result={"pid": pid, "hostname": hostname},
        reply_to=job.message.reply_to,
        correlation_id=job.message.correlation_id or job.message.id,
    )


def _stored(outcome: Outcome) -> Any:
    if outcome.state in EXCEPTION_STATES and isinstance(outcome.result, BaseException):
        return exception_to_stored(outcome.result)
    return outcome.result


def failure(error: TaskError | Exception, *, store: bool = True, traceback: str | None = None) -> Outcome:
    """A FAILURE that was decided outside the task."""
    return Outcome("FAILURE", error, traceback, store)


def failed_instead(job: Job, error: Exception) -> Outcome:
    """The task succeeded, but what it returned cannot be written: that is what its caller must hear."""
    was = job.outcome
    return Outcome("FAILURE", error, str(error), True, publish=was.publish)


def by_tombstone(tombstone: Tombstone) -> Outcome:
    """How a task ended that killed its child, or had to be killed."""
    if tombstone.kind == TIME_LIMIT:
        return failure(TimeLimitExceeded(tombstone.limit_s), traceback=tombstone.stack or tombstone.detail)
    if tombstone.kind == TERMINATED:
        return Outcome("REVOKED", TaskRevoked("terminated"))
    return failure(WorkerLost(tombstone.detail), traceback=tombstone.stack or tombstone.detail)


def obituary(tombstone: Tombstone) -> ResultMeta:
    """The failure of a task whose message was acknowledged before it ran: nobody will deliver it again."""
    outcome = by_tombstone(tombstone)
    return ResultMeta(
        task_id=tombstone.task_id,
        status=outcome.state,
        result=_stored(outcome),
        traceback=outcome.traceback,
        date_done=datetime.now(timezone.utc).isoformat(),
        correlation_id=tombstone.task_id,
    )
