"""A task sent again: ``retry()``, automatic retries and their backoff, and ``replace()``.

Rules: a retry keeps the id, the place in a group or chain, and the queue it came from; in a worker its
message goes to the request's outbox, and is with the broker before the old message is acknowledged.
"""

from __future__ import annotations

import inspect
import random
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, NoReturn

from engine.codec import TaskMessage
from engine.context import Context
from engine.dispatch import timestamp
from engine.errors import ConfigurationError, Ignore, MaxRetriesExceeded, Reject, Retry
from engine.outbox import Outbox
from engine.signature import Signature, as_list

#: broker bookkeeping that must not be sent again
_BROKER_HEADERS = ("x-death", "x-first-death", "x-last-death", "x-delivery-count", "x-acquired-count")


def retry(
    task: Any,
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    exc: BaseException | None,
    throw: bool,
    eta: Any,
    countdown: float | None,
    max_retries: int | None,
    options: dict[str, Any],
) -> Retry:
    """`Task.retry`."""
    request: Context = task.request
    if request.called_directly:
        _raise(exc or Retry("task can be retried", None))
    retries = (request.retries or 0) + 1
    most = task.max_retries if max_retries is None else max_retries
    if eta is None and countdown is None:
        countdown = task.default_retry_delay
    new_args, new_kwargs = _arguments(task, request, args, kwargs)
    if most is not None and retries > most:
        if exc is not None:
            _raise(exc)
        raise MaxRetriesExceeded(
            f"can't retry {task.name}[{request.id}] args:{new_args} kwargs:{new_kwargs}: "
            f"it was retried {most} times"
        )
    call = {**_inherited(request), **options, "retries": retries, "eta": eta, "countdown": countdown}
    again = Retry(None, exc, countdown if countdown is not None else _seconds_until(eta))
    if request.is_eager:
        request.update(retry_as=(new_args, new_kwargs, call))
    else:
        _send(task, request, new_args, new_kwargs, call)
    if throw:
        raise again
    return again


def autoretry(task: Any, error: BaseException) -> Retry | BaseException:
    """What an exception of the task means under ``autoretry_for``: a Retry, or the exception that is left."""
    if not task.autoretry_for or isinstance(error, (Ignore, Reject, Retry, *task.dont_autoretry_for)):
        return error
    if not isinstance(error, tuple(task.autoretry_for)):
        return error
    options = dict(task.retry_kwargs or {})
    if task.retry_backoff:
        options["countdown"] = backoff_s(task, task.request.retries or 0)
    try:
        task.retry(exc=error, **options)
    except Retry as again:
        return again
    except Exception as final:  # noqa: BLE001 - the error itself, or MaxRetriesExceeded
        return final
    return error


def backoff_s(task: Any, retries: int) -> int:
    """Seconds before the next try: factor * 2 ** retries, at most retry_backoff_max, with full jitter."""
    factor = max(1.0, float(task.retry_backoff))
    longest = int(min(task.retry_backoff_max, factor * 2 ** min(retries, 62)))
    return random.randrange(longest + 1) if task.retry_jitter else longest  # noqa: S311 - jitter, no secret


def replace(task: Any, sig: Signature) -> NoReturn:
    """`Task.replace`: raises Ignore when ``sig`` was handed over in its place."""
    request: Context = task.request
    if request.chord or "chord" in sig.options:
        raise ConfigurationError("a task of a chord cannot be replaced: chords are not implemented")
    sig = sig.clone()
    for callback in as_list(request.callbacks):
        sig.link(callback)
    for errback in as_list(request.errbacks):
        sig.link_error(errback)
    sig.freeze(request.id)
    sig.set(
        group_id=request.group,
        group_index=request.group_index,
        root_id=request.root_id,
        reply_to=request.reply_to,
        replaced_task_nesting=(request.replaced_task_nesting or 0) + 1,
    )
    box = Outbox()
    sig.apply_async(chain=request.chain, producer=box, add_to_parent=False)
    if request.outbox is None:
        task.app.producer.publish_messages(box.messages)
    else:
        request.outbox.extend(box.messages)
    raise Ignore("replaced by another task")


def _send(task: Any, request: Context, args: Any, kwargs: Any, call: dict[str, Any]) -> None:
    box = Outbox()
    try:
        task.app.send(None, task.name, args, kwargs, request.id, box, {**call, "add_to_parent": False})
        if request.outbox is not None:
            request.outbox.extend(box.messages)
            return
        errors = [error for error in task.app.producer.publish_messages(box.messages) if error is not None]
    except (TypeError, ConfigurationError):  # a wrong option of retry(): the task fails by it, and says so
        raise
    except Exception as error:
        raise Reject(error, requeue=False) from error
    if errors:
        raise Reject(errors[0], requeue=True) from errors[0]


def _inherited(request: Context) -> dict[str, Any]:
    """The options of the call that is running, for the next one."""
    headers = {
        name: value for name, value in (request.headers or {}).items() if not name.startswith(_BROKER_HEADERS)
    }
    message: TaskMessage = request.message
    stamps = message.stamps or {}
    inherited = {
        "root_id": message.root_id,
        "parent_id": message.parent_id,
        "group_id": message.group,
        "group_index": message.group_index,
        "shadow": message.shadow,
        "chord": message.chord,
        "chain": message.chain,
        "link": message.callbacks,
        "link_error": message.errbacks,
        "expires": message.expires,
        "time_limit": message.time_limit,
        "soft_time_limit": message.soft_time_limit,
        "headers": headers or None,
        "reply_to": message.reply_to,
        "replaced_task_nesting": message.replaced_task_nesting,
        "origin": message.origin,
        "ignore_result": message.ignore_result,
        "stamped_headers": message.stamped_headers,
        **{name: stamps[name] for name in message.stamped_headers or () if name in stamps},
        **_same_place(request.delivery_info),
    }
    return {name: value for name, value in inherited.items() if value is not None}


def _same_place(delivery_info: Mapping[str, Any]) -> dict[str, Any]:
    exchange, key = delivery_info.get("exchange"), delivery_info.get("routing_key")
    place: dict[str, Any] = {"priority": delivery_info.get("priority")}
    if exchange == "" and key:
        place["queue"] = key
    elif exchange:
        place.update(exchange=exchange, routing_key=key)
    return place


def _arguments(
    task: Any, request: Context, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None
) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """Those given, else those of the running call; one that is given anew is not inherited as well."""
    old_args, old_kwargs = tuple(request.args or ()), dict(request.kwargs or {})
    if args is None and kwargs is None:
        return old_args, old_kwargs
    try:
        parameters = inspect.signature(task.run)
    except (TypeError, ValueError):
        return args if args is not None else old_args, kwargs if kwargs is not None else old_kwargs
    if args is not None and kwargs is None:
        named = [p.name for p in parameters.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
        taken = set(named[: len(args)])
        return args, {name: value for name, value in old_kwargs.items() if name not in taken}
    if args is None and kwargs is not None and old_args:
        bound = parameters.bind_partial(*old_args)
        rest = dict(kwargs)
        for name in list(rest):
            parameter = parameters.parameters.get(name)
            if name in bound.arguments and parameter is not None:
                bound.arguments[name] = rest.pop(name)
        return bound.args, {**bound.kwargs, **rest}
    return args if args is not None else old_args, kwargs if kwargs is not None else old_kwargs


def _seconds_until(eta: Any) -> float | None:
    if eta is None:
        return None
    moment = timestamp(eta if isinstance(eta, str) else eta.isoformat())
    return max(0.0, moment - datetime.now(timezone.utc).timestamp())


def _raise(error: BaseException) -> NoReturn:
    """Raise ``error``, with what is being handled as its cause."""
    current = sys.exc_info()[1]
    if current is None or current is error:
        raise error
    raise error from current
