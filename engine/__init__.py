"""A background-task engine that speaks Celery's protocol: the public names, imported at their first use."""

from __future__ import annotations

TYPE_CHECKING = False  # typing itself would be most of the time that importing this takes
if TYPE_CHECKING:
    from kombu.entity import Exchange as Exchange
    from kombu.entity import Queue as Queue

    from engine import errors as errors
    from engine import signals as signals
    from engine.app import Engine as Engine
    from engine.async_result import AsyncResult as AsyncResult
    from engine.canvas import chain as chain
    from engine.canvas import chord as chord
    from engine.canvas import group as group
    from engine.consumer import Consumer as Consumer
    from engine.context import Context as Context
    from engine.context import current_app as current_app
    from engine.context import current_task as current_task
    from engine.errors import EngineError as EngineError
    from engine.errors import Ignore as Ignore
    from engine.errors import MaxRetriesExceeded as MaxRetriesExceeded
    from engine.errors import Reject as Reject
    from engine.errors import Retry as Retry
    from engine.errors import SoftTimeLimitExceeded as SoftTimeLimitExceeded
    from engine.group_result import GroupResult as GroupResult
    from engine.producer import Producer as Producer
    from engine.shared_task import shared_task as shared_task
    from engine.signature import Signature as Signature
    from engine.signature import signature as signature
    from engine.task import Task as Task

__version__ = "0.1.0"

_WHERE = {
    "AsyncResult": "engine.async_result",
    "Consumer": "engine.consumer",
    "Context": "engine.context",
    "Engine": "engine.app",
    "EngineError": "engine.errors",
    "Exchange": "kombu.entity",
    "GroupResult": "engine.group_result",
    "Ignore": "engine.errors",
    "MaxRetriesExceeded": "engine.errors",
    "Producer": "engine.producer",
    "Queue": "kombu.entity",
    "Reject": "engine.errors",
    "Retry": "engine.errors",
    "Signature": "engine.signature",
    "SoftTimeLimitExceeded": "engine.errors",
    "Task": "engine.task",
    "chain": "engine.canvas",
    "chord": "engine.canvas",
    "current_app": "engine.context",
    "current_task": "engine.context",
    "group": "engine.canvas",
    "shared_task": "engine.shared_task",
    "signature": "engine.signature",
}
_MODULES = ("errors", "signals")

__all__ = ["__version__", *_MODULES, *_WHERE]


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name in _MODULES:
        return import_module(f"engine.{name}")
    try:
        module = _WHERE[name]
    except KeyError:
        raise AttributeError(f"module 'engine' has no attribute {name!r}") from None
    value: object = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
