"""What is running here and now: the stack of task requests, and the app that code without one means.

The stack is a context variable, so threads and coroutines each see their own. A request (`Context`) reads
what it does not hold itself from its `TaskMessage`, so making one for each task costs next to nothing.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from contextvars import Token
from typing import Any

from engine.codec import Delivery, TaskMessage
from engine.errors import ConfigurationError
from engine.work import Running
from engine.work import stack as _stack

_EMPTY_MESSAGE = TaskMessage("", "")


class Context:
    """The request of one task run (``task.request``): every field of its message, and these.

    Attributes:
        called_directly: the task was called as a plain function: no message, no worker.
        is_eager: run by ``apply``, in the caller's process.
        delivery: the delivery it came with, in a worker.
        delivery_info: exchange, routing_key, priority and redelivered of that delivery.
        hostname: the worker's name.
        outbox: in a worker, the list of messages to publish before the acknowledgement; else None.
        children: the results of the tasks it sent.
        properties: the delivery's other properties.
    """

    called_directly = True
    is_eager = False
    hostname: str | None = None
    delivery: Delivery | None = None
    outbox: list[Any] | None = None
    logfile: str | None = None
    loglevel: int | None = None
    utc = True
    _children: list[Any] | None = None

    def __init__(self, message: TaskMessage | None = None, **fields: Any) -> None:
        self.message = _EMPTY_MESSAGE if message is None else message
        if fields:
            self.update(fields)

    def __getattr__(self, name: str) -> Any:
        try:
            return _FROM_MESSAGE[name](self.message)
        except KeyError:
            raise AttributeError(f"a task's request has no {name!r}") from None

    def __repr__(self) -> str:
        return f"<Context {self.task}[{self.id}] retries={self.retries}>"

    def get(self, name: str, default: Any = None) -> Any:
        return getattr(self, name, default)

    def update(self, *values: Mapping[str, Any], **more: Any) -> None:
        for mapping in (*values, more):
            for name, value in mapping.items():
                self.__dict__["_delivery_info" if name == "delivery_info" else name] = value

    @property
    def children(self) -> list[Any]:
        if self._children is None:
            self._children = []
        return self._children

    @property
    def delivery_info(self) -> dict[str, Any]:
        given: dict[str, Any] | None = self.__dict__.get("_delivery_info")
        if given is None:
            given = self.__dict__["_delivery_info"] = _delivery_info(self.delivery)
        return given

    @property
    def properties(self) -> dict[str, Any]:
        return {} if self.delivery is None else self.delivery.properties

    @property
    def priority(self) -> int | None:
        return self.delivery_info.get("priority")

    def children_as_tuples(self) -> list[Any]:
        """The children as a result's meta stores them."""
        return [child.as_tuple() for child in self._children] if self._children else []


def _delivery_info(delivery: Delivery | None) -> dict[str, Any]:
    if delivery is None:
        return {}
    return {
        "exchange": delivery.exchange,
        "routing_key": delivery.routing_key,
        "priority": delivery.properties.get("priority"),
        "redelivered": delivery.redelivered,
    }


def _getter(name: str) -> Callable[[TaskMessage], Any]:
    return lambda message: getattr(message, name)


_FIELDS = [
    "task",
    "id",
    "args",
    "kwargs",
    "eta",
    "expires",
    "group",
    "group_index",
    "retries",
    "time_limit",
    "soft_time_limit",
    "root_id",
    "parent_id",
    "shadow",
    "argsrepr",
    "kwargsrepr",
    "origin",
    "ignore_result",
    "replaced_task_nesting",
    "stamped_headers",
    "stamps",
    "headers",
    "callbacks",
    "errbacks",
    "chain",
    "chord",
    "reply_to",
    "correlation_id",
]
_FROM_MESSAGE: dict[str, Callable[[TaskMessage], Any]] = {
    **{name: _getter(name) for name in _FIELDS},
    "timelimit": lambda message: [message.time_limit, message.soft_time_limit],
    "taskset": lambda message: message.group,
    "task": lambda message: message.task or None,
    "id": lambda message: message.id or None,
}


def push(task: Any, request: Context) -> Token[Running | None]:
    """The task starts to run; give the token to `pop`."""
    return _stack.set(running_of(task, request))


def running_of(task: Any, request: Context) -> Running:
    """The entry of the stack that a run of the task would be."""
    return Running(task, request, _stack.get())


def pop(token: Token[Running | None] | None = None) -> None:
    """The task that was pushed last has ended."""
    if token is not None:
        _stack.reset(token)
        return
    top = _stack.get()
    _stack.set(top.below if top is not None else None)


def request_of(task: Any) -> Context | None:
    """The innermost running request of that task."""
    node = _stack.get()
    while node is not None:
        if node.task is task:
            request: Context = node.request
            return request
        node = node.below
    return None


def current_request() -> Context | None:
    """The request that runs here, of whichever task."""
    node = _stack.get()
    if node is None:
        return None
    request: Context = node.request
    return request


def current_task() -> Any:
    """The task that runs here, or None."""
    node = _stack.get()
    return node.task if node is not None else None


# -- the app that code without one means ----------------------------------------------------------------

_app: Any = None
_shared: list[Callable[[Any], Any]] = []
_apps: weakref.WeakSet[Any] = weakref.WeakSet()


def set_current_app(app: Any) -> None:
    """The newest app is the one that signatures and results without an app use."""
    global _app
    _app = app


def current_app() -> Any:
    """Raises ConfigurationError when no app was made."""
    if _app is None:
        raise ConfigurationError("there is no app yet: make one with app = Engine()")
    return _app


def adopt(app: Any) -> None:
    """An app was made: tasks shared later are registered in it too."""
    _apps.add(app)


def share_task(make: Callable[[Any], Any]) -> None:
    """``make(app)`` registers a task in every app, those there are and those to come."""
    _shared.append(make)
    for app in list(_apps):
        if app._finalized:
            make(app)


def shared_tasks() -> list[Callable[[Any], Any]]:
    """What registers the shared tasks, for an app that is being finalized."""
    return list(_shared)
