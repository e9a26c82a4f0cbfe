"""Exceptions to and from what a result store keeps: ``{"exc_type", "exc_message", "exc_module"}``.

A stored name is never imported and never called unless it is an exception class that this process has loaded
already (CVE-2021-23727): anything else becomes `TaskFailed`, which carries what was stored.
"""

from __future__ import annotations

import sys
from typing import Any

from engine.codec import json_encode
from engine.errors import CodecError, TaskFailed

#: Celery's own exceptions, which its workers store, under the names they have here
_FROM_CELERY = {
    "TimeLimitExceeded": "TimeLimitExceeded",
    "SoftTimeLimitExceeded": "SoftTimeLimitExceeded",
    "WorkerLostError": "WorkerLost",
    "TaskRevokedError": "TaskRevoked",
    "NotRegistered": "NotRegistered",
    "MaxRetriesExceededError": "MaxRetriesExceeded",
    "Ignore": "Ignore",
    "Reject": "Reject",
    "Retry": "Retry",
}
_TO_CELERY = {name: celery for celery, name in _FROM_CELERY.items()}
_CELERY_MODULES = ("celery.exceptions", "billiard.exceptions", "billiard.einfo")
#: they would end the process that asks for a result
_NEVER_RAISED = (SystemExit, KeyboardInterrupt, GeneratorExit)


def exception_to_stored(error: BaseException) -> dict[str, Any]:
    """What a result store keeps of an exception; arguments that JSON cannot hold are kept as their repr."""
    kind = type(error)
    name, module = kind.__qualname__, kind.__module__
    if module == "engine.errors" and name in _TO_CELERY:
        name, module = _TO_CELERY[name], "celery.exceptions"
    return {"exc_type": name, "exc_message": _plain(error.args), "exc_module": module}


def exception_from_stored(stored: Any) -> BaseException:
    """The exception that was stored, or a TaskFailed in its place. Never imports, never raises."""
    if isinstance(stored, BaseException):
        return stored
    if not isinstance(stored, dict) or "exc_type" not in stored:
        return TaskFailed("TaskFailed", stored)
    name, module = str(stored["exc_type"]), stored.get("exc_module")
    message = stored.get("exc_message", "")
    arguments = tuple(message) if isinstance(message, (list, tuple)) else (message,)
    kind = _loaded_class(name, module)
    if kind is not None:
        error: BaseException | None
        try:
            error = kind(*arguments)
        except Exception:  # noqa: BLE001 - a constructor with other arguments than Exception's
            error = _without_init(kind, arguments)
        if isinstance(error, BaseException):
            return error
    return TaskFailed(name, message, module)


def _loaded_class(name: str, module: Any) -> type[BaseException] | None:
    if module in _CELERY_MODULES and name in _FROM_CELERY:
        name, module = _FROM_CELERY[name], "engine.errors"
    found: Any = sys.modules.get(module) if isinstance(module, str) else None
    if found is None:
        return None
    for part in name.split("."):
        found = vars(found).get(part) if hasattr(found, "__dict__") else None
    if not isinstance(found, type) or not issubclass(found, BaseException):
        return None
    return None if issubclass(found, _NEVER_RAISED) else found


def _without_init(kind: type[BaseException], arguments: tuple[Any, ...]) -> BaseException | None:
    """An instance with the right class and args though its ``__init__`` wants others."""
    try:
        error = kind.__new__(kind, *arguments)
        error.args = arguments
    except Exception:  # noqa: BLE001 - then TaskFailed tells what was stored
        return None
    return error


def _plain(arguments: tuple[Any, ...]) -> list[Any]:
    try:
        json_encode(arguments)
    except (CodecError, TypeError, ValueError):
        return [_plain_value(argument) for argument in arguments]
    return list(arguments)


def _plain_value(argument: Any) -> Any:
    try:
        json_encode(argument)
    except (CodecError, TypeError, ValueError):
        return repr(argument)
    return argument
