"""Results in this process's memory, for users' tests with ``memory://``. Nothing outlives the process."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

from engine.results.base import READY_STATES, ResultMeta, ResultStore


class _Shelf:
    """The results of one name, shared by every store of that name in the process."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.metas: dict[str, tuple[ResultMeta, float]] = {}
        self.groups: dict[str, list[Any]] = {}


_shelves: dict[str, _Shelf] = {}
_shelves_lock = threading.Lock()


class MemoryStore(ResultStore):
    """A result store inside this process."""

    def __init__(self, url: str = "memory://", *, expires_s: float | None = 86400.0) -> None:
        self._expires_s = expires_s or float("inf")
        with _shelves_lock:
            self._shelf = _shelves.setdefault(url.partition("://")[2], _Shelf())

    def store(self, metas: Sequence[ResultMeta]) -> None:
        due = time.monotonic() + self._expires_s
        with self._shelf.changed:
            for meta in metas:
                old = self._shelf.metas.get(meta.task_id)
                if old is None or old[0].status != "SUCCESS":
                    self._shelf.metas[meta.task_id] = (replace(meta), due)
            self._shelf.changed.notify_all()

    def get(self, task_id: str) -> ResultMeta | None:
        found = self._shelf.metas.get(task_id)
        return replace(found[0]) if found is not None and found[1] > time.monotonic() else None

    def wait(self, task_id: str, timeout: float | None) -> ResultMeta | None:
        def ready() -> ResultMeta | None:
            meta = self.get(task_id)
            return meta if meta is not None and meta.status in READY_STATES else None

        with self._shelf.changed:
            return self._shelf.changed.wait_for(ready, timeout)

    def iter_ready(self, task_ids: Sequence[str], timeout: float | None) -> Generator[ResultMeta, None, None]:
        deadline_mono_s = None if timeout is None else time.monotonic() + timeout
        missing = dict.fromkeys(task_ids)

        def ready() -> list[ResultMeta]:
            found = self.get_many(list(missing)).values()
            return [meta for meta in found if meta.status in READY_STATES]

        while missing:
            left_s = None if deadline_mono_s is None else max(0.0, deadline_mono_s - time.monotonic())
            with self._shelf.changed:
                found = self._shelf.changed.wait_for(ready, left_s)
            if not found:
                return
            for meta in found:
                del missing[meta.task_id]
                yield meta

    def forget(self, task_id: str) -> None:
        with self._shelf.changed:
            self._shelf.metas.pop(task_id, None)

    def expire(self) -> int:
        now = time.monotonic()
        with self._shelf.changed:
            gone = [task_id for task_id, (_, due) in self._shelf.metas.items() if due <= now]
            for task_id in gone:
                del self._shelf.metas[task_id]
        return len(gone)

    def save_group(self, group_id: str, task_ids: Sequence[Any]) -> None:
        with self._shelf.changed:
            self._shelf.groups[group_id] = list(task_ids)

    def get_group(self, group_id: str) -> list[Any] | None:
        return self._shelf.groups.get(group_id)

    def close(self) -> None:
        """The shelf stays, as a server would."""
