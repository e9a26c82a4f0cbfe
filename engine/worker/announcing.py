"""The app's task signals (``task_prerun`` and its like), sent around a run. Without receivers they cost a
look. Their keywords are Celery's; what a receiver raises is logged by the signal itself.
"""

from __future__ import annotations

from typing import Any

from engine import signals
from engine.codec import TaskMessage
from engine.context import Context
from engine.error_info import ErrorInfo
from engine.work import Outcome


def before_run(task: Any, message: TaskMessage) -> None:
    """The task is about to run."""
    signals.task_prerun.send(
        sender=task, task_id=message.id, task=task, args=message.args, kwargs=message.kwargs
    )


def after_run(task: Any, message: TaskMessage, request: Context, outcome: Outcome) -> None:
    """The task has ended, in whichever way."""
    state = outcome.state
    if state == "SUCCESS":
        if signals.task_success:
            signals.task_success.send(sender=task, result=outcome.result)
    elif state == "FAILURE":
        if signals.task_failure:
            _failed(task, message, outcome)
    elif state == "RETRY":
        if signals.task_retry:
            info = ErrorInfo(outcome.result, outcome.traceback or "")
            signals.task_retry.send(sender=task, request=request, reason=outcome.result, einfo=info)
    elif state == "REJECTED" and signals.task_rejected:
        signals.task_rejected.send(sender=task, message=request, exc=outcome.result)
    if signals.task_postrun:
        signals.task_postrun.send(
            sender=task,
            task_id=message.id,
            task=task,
            args=message.args,
            kwargs=message.kwargs,
            retval=outcome.result,
            state=state,
        )


def _failed(task: Any, message: TaskMessage, outcome: Outcome) -> None:
    error = outcome.result
    signals.task_failure.send(
        sender=task,
        task_id=message.id,
        exception=error,
        args=message.args,
        kwargs=message.kwargs,
        traceback=error.__traceback__,
        einfo=ErrorInfo(error, outcome.traceback or ""),
    )


def unknown(name: str, task_id: str, delivery: Any, error: Exception) -> None:
    """No task of that name is registered."""
    if signals.task_unknown:
        signals.task_unknown.send(sender=None, name=name, id=task_id, message=delivery, exc=error)


def revoked(task: Any, message: TaskMessage, signum: int | None = None) -> None:
    """The task was not run, since it was revoked; or it was ended by that signal."""
    if signals.task_revoked:
        signals.task_revoked.send(
            sender=task, request=message, terminated=signum is not None, signum=signum, expired=False
        )


def expired(task: Any, message: TaskMessage) -> None:
    """The task was not run, since it came too late."""
    if signals.task_revoked:
        signals.task_revoked.send(sender=task, request=message, terminated=False, signum=None, expired=True)
