"""``Task.apply``: the task runs here, with its callbacks and its retries, and nothing goes to a broker."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from engine import context as running
from engine.async_result import EagerResult
from engine.context import Context
from engine.dispatch import make_task
from engine.ids import new_id
from engine.work import Outcome

if TYPE_CHECKING:
    from engine.task import Task


def apply_task(
    task: Task[Any, Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    task_id: str | None,
    throw: bool | None,
    options: dict[str, Any],
) -> EagerResult[Any]:
    """Run until it has succeeded, failed, or used up its retries; the waits before retries are left out."""
    app = task.app
    task_id = task_id or new_id()
    parent = running.current_request()
    if parent is not None and parent.id:
        options = {"parent_id": parent.id, "root_id": parent.root_id or parent.id, **options}
    while True:
        given = {name: value for name, value in options.items() if value is not None}
        message = make_task(task.name, task_id, args, kwargs, given)
        message.ignore_result = options.get("ignore_result")
        request = Context(
            message,
            called_directly=False,
            is_eager=True,
            hostname=socket.gethostname(),
            delivery_info={
                "is_eager": True,
                "exchange": options.get("exchange"),
                "routing_key": options.get("routing_key"),
                "priority": options.get("priority"),
                "redelivered": False,
            },
        )
        outcome = app.run_task(task, request, message)
        again = request.__dict__.get("retry_as")
        if outcome.state != "RETRY" or again is None:
            break
        args, kwargs, options = again
    _store(app, task, request, outcome)
    failed = isinstance(outcome.result, BaseException) and outcome.state == "FAILURE"
    if failed and (app.conf.task_eager_propagates if throw is None else throw):
        raise outcome.result
    return EagerResult(task_id, outcome.result, outcome.state, outcome.traceback, task.name, app)


def _store(app: Any, task: Task[Any, Any], request: Context, outcome: Outcome) -> None:
    if not task.store_eager_result or not outcome.store:
        return
    from engine.results.base import ResultMeta
    from engine.stored_exceptions import exception_to_stored

    value = outcome.result
    if isinstance(value, BaseException):
        value = exception_to_stored(value)
    meta = ResultMeta(request.id, outcome.state, value, outcome.traceback, request.children_as_tuples())
    app.results.store([meta])
