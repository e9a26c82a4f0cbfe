"""The contract of a result store, and the meta every store writes (celery/backends/base.py, WIRE W8)."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

#: States in which a task has ended for good.
READY_STATES = frozenset({"SUCCESS", "FAILURE", "REVOKED"})
EXCEPTION_STATES = frozenset({"RETRY", "FAILURE", "REVOKED"})
PROPAGATE_STATES = frozenset({"FAILURE", "REVOKED"})


@dataclass(slots=True)
class ResultMeta:
    """One stored result, in Celery's terms. ``result`` is the plain value as it is written: for failures
    ``{"exc_type", "exc_message", "exc_module"}``."""

    task_id: str
    status: str
    result: Any = None
    traceback: str | None = None
    children: list[Any] = field(default_factory=list)
    date_done: str | None = None
    group_id: str | None = None
    parent_id: str | None = None
    extended: dict[str, Any] | None = None  #: name, args, kwargs, worker, retries, queue (result_extended)
    reply_to: str | None = None  #: rpc only: where to send it; never stored
    correlation_id: str | None = None  #: rpc only

    def to_wire(self) -> dict[str, Any]:
        """The dict that is serialized, with Celery's keys in Celery's order."""
        meta: dict[str, Any] = {
            "status": self.status,
            "result": self.result,
            "traceback": self.traceback,
            "children": self.children,
            "date_done": self.date_done,
        }
        if self.group_id is not None:
            meta["group_id"] = self.group_id
        if self.parent_id is not None:
            meta["parent_id"] = self.parent_id
        if self.extended:
            meta.update(self.extended)
        meta["task_id"] = self.task_id
        return meta

    @classmethod
    def from_wire(cls, meta: dict[str, Any]) -> ResultMeta:
        """The inverse of ``to_wire``; keys not known go to ``extended``."""
        rest = dict(meta)
        return cls(
            task_id=rest.pop("task_id", ""),
            status=rest.pop("status", "PENDING"),
            result=rest.pop("result", None),
            traceback=rest.pop("traceback", None),
            children=rest.pop("children", None) or [],
            date_done=rest.pop("date_done", None),
            group_id=rest.pop("group_id", None),
            parent_id=rest.pop("parent_id", None),
            extended=rest or None,
        )


class ResultStore(ABC):
    """Where results live. Used by one thread at a time; opened after fork; connects lazily."""

    #: reading takes the result away (rpc): get() twice needs the local cache
    consuming = False
    #: whether the last wait found its result at once; `iter_ready` puts it down before it sleeps
    _looks_first = True

    @abstractmethod
    def store(self, metas: Sequence[ResultMeta]) -> None:
        """Write all of them, safely stored on return. A stored SUCCESS is never overwritten.
        Raises ConnectionLost or ConnectionFailed: then nothing may be acknowledged."""

    @abstractmethod
    def get(self, task_id: str) -> ResultMeta | None:
        """What is stored now, or None."""

    def get_many(self, task_ids: Sequence[str]) -> dict[str, ResultMeta]:
        """Those that are stored."""
        found = ((task_id, self.get(task_id)) for task_id in task_ids)
        return {task_id: meta for task_id, meta in found if meta is not None}

    @abstractmethod
    def wait(self, task_id: str, timeout: float | None) -> ResultMeta | None:
        """Block until the task is in a READY state; None at the timeout. No busy polling."""

    def _wait_as_last_time(self, task_id: str, timeout: float | None) -> ResultMeta | None:
        """`wait`, for a store whose ``iter_ready`` listens before it looks. Who waits for confirms finds
        results there, and a look costs less than listening; who does not is too early, and is spared it."""
        if self._looks_first:
            meta = self.get(task_id)
            if meta is not None and meta.status in READY_STATES:
                return meta
        self._looks_first = True
        return next(self.iter_ready([task_id], timeout), None)

    def iter_ready(self, task_ids: Sequence[str], timeout: float | None) -> Generator[ResultMeta, None, None]:
        """Each as it comes; ends when all have come, or after ``timeout`` seconds from the start. The default
        waits for them in order."""
        deadline_mono_s = None if timeout is None else time.monotonic() + timeout
        for task_id in task_ids:
            left_s = None if deadline_mono_s is None else max(0.0, deadline_mono_s - time.monotonic())
            meta = self.wait(task_id, left_s)
            if meta is not None:
                yield meta

    @abstractmethod
    def forget(self, task_id: str) -> None:
        """Delete it."""

    def prepare(self, task_id: str) -> None:  # noqa: B027 - only push stores subscribe ahead
        """Called before the task is published (rpc declares its queue, redis may subscribe)."""

    def expire(self) -> int:
        """Delete what is past ``result_expires``; how many. Stores whose server does it return 0."""
        return 0

    def save_group(self, group_id: str, task_ids: Sequence[Any]) -> None:
        """Remember a group's members (``celery-taskset-meta-<gid>``)."""
        raise NotImplementedError(f"{type(self).__name__} keeps no groups")

    def get_group(self, group_id: str) -> list[Any] | None:
        raise NotImplementedError(f"{type(self).__name__} keeps no groups")

    @abstractmethod
    def close(self) -> None:
        """Never raises."""


#: ``(url, settings-like mapping, transport or None) -> ResultStore``
StoreFactory = Callable[..., ResultStore]
