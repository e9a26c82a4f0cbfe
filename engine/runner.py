"""`run_task`: one run of one task, from its hooks to its `Outcome`. No transport, no clock limits, no store.

Rules: whatever user code raises becomes an outcome, except KeyboardInterrupt and its like; ``sys.exit()`` in
a task fails the task, it does not end the worker; everything that is to be published because of the run (a
retry, callbacks, the chain's next step) is in ``Outcome.publish``, so that it can be confirmed before the
acknowledgement.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from types import CoroutineType
from typing import Any

from engine import context, coroutines
from engine.canvas import group
from engine.codec import TaskMessage
from engine.context import Context
from engine.error_info import ErrorInfo
from engine.errors import Ignore, Reject, Retry
from engine.outbox import Outbox
from engine.retrying import autoretry
from engine.signature import Signature, signature
from engine.task import Task, overridden
from engine.tracebacks import format_traceback
from engine.work import Outcome, Runner, Running

logger = logging.getLogger(__name__)


class TaskRunner(Runner):
    """`run_task` in two parts: the plain run is native, the rest is here."""

    def awaited(self, coroutine: CoroutineType[Any, Any, Any]) -> Any:
        return coroutines.run(coroutine)

    def before(self, running: Running, message: TaskMessage) -> None:
        running.task.before_start(message.id, message.args, message.kwargs)

    def succeeded(self, running: Running, message: TaskMessage, result: Any) -> None:
        _call_hook(running.task, message, "on_success", result, message.id, message.args, message.kwargs)

    def after(self, running: Running, message: TaskMessage, outcome: Outcome) -> None:
        _after_return(running.task, message, outcome)

    def follow_up(self, app: Any, running: Running, message: TaskMessage, result: Any) -> list[Any]:
        return _follow_up(app, running.request, message, result)

    def raised(self, app: Any, running: Running, message: TaskMessage, error: BaseException) -> Outcome:
        return _raised(app, running.task, running.request, message, error)

    def failed(self, app: Any, running: Running, message: TaskMessage, error: BaseException) -> Outcome:
        return _failed(app, running.task, running.request, message, error)


RUNNER = TaskRunner()


def run_task(app: Any, task: Task[Any, Any], ctx: Context, message: TaskMessage) -> Outcome:
    """Run the task once. Raises nothing that user code raised as an error."""
    hooks = overridden(task)
    call = task if "__call__" in hooks else task.run
    return RUNNER.run(app, context.running_of(task, ctx), message, call, hooks, not task.ignore_result)


def _raised(
    app: Any, task: Task[Any, Any], ctx: Context, message: TaskMessage, error: BaseException
) -> Outcome:
    if isinstance(error, Reject):
        return Outcome("REJECTED", error, store=False, requeue=error.requeue)
    if isinstance(error, Ignore):
        return Outcome("IGNORED", error, store=False)
    if not isinstance(error, Retry):
        error = autoretry(task, error)
    if isinstance(error, Reject):  # the retry could not be published
        return Outcome("REJECTED", error, store=False, requeue=error.requeue)
    if isinstance(error, Retry):
        return _retried(task, message, error)
    return _failed(app, task, ctx, message, error)


def _retried(task: Task[Any, Any], message: TaskMessage, error: Retry) -> Outcome:
    text = format_traceback(error)
    if "on_retry" in overridden(task):
        info = ErrorInfo(error, text)
        _call_hook(task, message, "on_retry", error.exc, message.id, message.args, message.kwargs, info)
    stored = error.exc if error.exc is not None else error
    return Outcome("RETRY", stored, text, store=_stores_errors(task, message))


def _failed(
    app: Any, task: Task[Any, Any], ctx: Context, message: TaskMessage, error: BaseException
) -> Outcome:
    text = format_traceback(error)
    outcome = Outcome("FAILURE", error, text, store=_stores_errors(task, message))
    if message.errbacks:
        outcome.publish = call_errbacks(app, ctx, message, error, text)
    if "on_failure" in overridden(task):
        info = ErrorInfo(error, text)
        _call_hook(task, message, "on_failure", error, message.id, message.args, message.kwargs, info)
    return outcome


def _after_return(task: Task[Any, Any], message: TaskMessage, outcome: Outcome) -> None:
    info = None
    if isinstance(outcome.result, BaseException):
        info = ErrorInfo(outcome.result, outcome.traceback or "")
    _call_hook(
        task,
        message,
        "after_return",
        outcome.state,
        outcome.result,
        message.id,
        message.args,
        message.kwargs,
        info,
    )


def _call_hook(task: Task[Any, Any], message: TaskMessage, hook: str, *args: Any) -> None:
    """The outcome is decided: what a hook raises is logged, and changes nothing."""
    try:
        getattr(task, hook)(*args)
    except Exception:
        logger.exception("task %s[%s]: its %s hook raised", message.task, message.id, hook)


def _ignores(task: Task[Any, Any], message: TaskMessage) -> bool:
    """The call's word counts before the task's (celery/app/task.py, get_actual_ignore_result)."""
    ignored = message.ignore_result
    return bool(task.ignore_result if ignored is None else ignored)


def _stores_errors(task: Task[Any, Any], message: TaskMessage) -> bool:
    return bool(not _ignores(task, message) or task.store_errors_even_if_ignored)


# -- what follows --------------------------------------------------------------------------------------


def _follow_up(app: Any, ctx: Context, message: TaskMessage, result: Any) -> list[Any]:
    """The messages of the callbacks and of the chain's next step."""
    if message.chord:
        logger.error(
            "task %s[%s] is part of a chord, which is not implemented here: its body will not be called",
            message.task,
            message.id,
        )
    given: dict[str, Any] = {"parent_id": message.id, "root_id": message.root_id or message.id}
    if app.conf.task_inherit_parent_priority:
        given["priority"] = ctx.priority
    box = Outbox()
    for callback in message.callbacks or ():
        _start(app, ctx, signature(callback, app=app), (result,), given, box)
    chain = message.chain
    if chain:
        after = {**given, "chain": list(chain[:-1]) or None}
        _start(app, ctx, signature(chain[-1], app=app), (result,), after, box)
    return box.messages


def call_errbacks(
    app: Any, ctx: Context, message: TaskMessage, error: BaseException, text: str | None
) -> list[Any]:
    """Call the error callbacks that this process knows and that take (request, exc, traceback); the messages
    of the others, which get the id of the failed task."""
    box = Outbox()
    given = {"parent_id": message.id, "root_id": message.root_id or message.id}
    for errback in message.errbacks or ():
        try:
            sig = signature(errback, app=app)
            if _takes_request(app, sig):
                sig(ctx, error, text)
            else:
                _start(app, ctx, sig, (message.id,), given, box)
        except Exception:
            logger.exception("task %s[%s]: its error callback %r raised", message.task, message.id, errback)
    return box.messages


def _takes_request(app: Any, sig: Signature) -> bool:
    """Celery's rule: a registered function that is not bound and takes more than one further argument."""
    task = app.tasks.get(sig.task)
    if task is None or task.bound or isinstance(sig, group) or sig.subtask_type:
        return False
    try:
        parameters = inspect.signature(task.run).parameters.values()
    except (TypeError, ValueError):
        return False
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return True
    positional = sum(1 for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD))
    return positional - (0 if sig.immutable else len(sig.args)) > 1


def _start(
    app: Any, ctx: Context, sig: Signature, args: Sequence[Any], options: dict[str, Any], box: Outbox
) -> None:
    """Send the signature into ``box``, or run it at once when the task itself ran eagerly."""
    if ctx.is_eager:
        rest = options.get("chain")
        eager = {name: value for name, value in options.items() if name != "chain"}
        ctx.children.append(sig.apply(args, chain=rest, **eager) if rest else sig.apply(args, **eager))
        return
    result = sig.apply_async(args, producer=box, add_to_parent=False, **options)
    if result is not None:
        ctx.children.append(result)
