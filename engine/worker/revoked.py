"""Ids of tasks that must not be run, in memory shared by all processes of the worker.

One writer, the supervisor; everybody else takes over what is new when its counter has moved. So a child that
starts late, one of a new generation included, knows them all before its first message, and nothing has to be
sent to anybody. The last 50,000 are kept (as Celery does), for as long as the worker runs.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterable

CAPACITY = 50_000
KEY_BYTES = 48
_TOTAL = struct.Struct("Q")
_KEYS_AT = 64


def key_of(task_id: str) -> str:
    """What is kept of an id: the id itself, or a digest of one that is long."""
    if len(task_id) <= KEY_BYTES and task_id.isascii() and "\0" not in task_id:
        return task_id
    import hashlib  # such an id is rare, and OpenSSL comes with it

    raw = task_id.encode("utf-8", "surrogatepass")
    return "~" + hashlib.blake2b(raw, digest_size=(KEY_BYTES - 1) // 2).hexdigest()


class Revoked:
    """A ring of ids. ``add`` is the supervisor's alone."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        self._map = mmap.mmap(-1, _KEYS_AT + capacity * KEY_BYTES)

    @property
    def total(self) -> int:
        """How many have ever been added."""
        total: int = _TOTAL.unpack_from(self._map)[0]
        return total

    def add(self, keys: Iterable[str]) -> None:
        """Keys of ids (`key_of`); the oldest are forgotten. The counter moves last."""
        total = self.total
        for key in keys:
            at = _KEYS_AT + total % self.capacity * KEY_BYTES
            self._map[at : at + KEY_BYTES] = key.encode().ljust(KEY_BYTES, b"\0")
            total += 1
        _TOTAL.pack_into(self._map, 0, total)

    def since(self, total: int) -> list[str]:
        """The keys that came after the first ``total``, oldest first, as far as they are still kept."""
        now = self.total
        keys = []
        for number in range(max(total, now - self.capacity), now):
            at = _KEYS_AT + number % self.capacity * KEY_BYTES
            keys.append(self._map[at : at + KEY_BYTES].rstrip(b"\0").decode("ascii", "replace"))
        return keys


class RevokedIds:
    """One process's view of them."""

    __slots__ = ("_seen", "_shared", "keys")

    def __init__(self, shared: Revoked) -> None:
        self.keys: dict[str, None] = {}  #: oldest first; always the same object, so that holding it is enough
        self._shared = shared
        self._seen = 0

    def refresh(self) -> None:
        """Take over what is new: nothing but a look when there is none."""
        if self._shared.total == self._seen:
            return
        keys = self._shared.since(self._seen)
        self._seen = max(self._seen, self._shared.total - self._shared.capacity, 0) + len(keys)
        self.keys.update(dict.fromkeys(keys))
        while len(self.keys) > self._shared.capacity:
            del self.keys[next(iter(self.keys))]

    def add_new(self, task_ids: Iterable[str]) -> list[str]:
        """The writer's way: add those that are not known yet; the keys of those."""
        self.refresh()
        new = [key for key in dict.fromkeys(map(key_of, task_ids)) if key not in self.keys]
        self._shared.add(new)
        self.refresh()
        return new

    def __contains__(self, task_id: str) -> bool:
        return key_of(task_id) in self.keys
