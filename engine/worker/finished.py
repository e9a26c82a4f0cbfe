"""Ids of tasks that were finished lately, in memory shared by all children: what a redelivery is checked
against.

A broker may deliver a message again whose acknowledgement was lost on the way, or which it forgot: a
classic queue of RabbitMQ does not sync acknowledgements, so after a kill about 500 finished messages come
back. Each child writes the ids it settled into a ring of its own; whoever gets a *redelivered* message
looks for it in all rings, and acknowledges without running what was finished already. Results and
follow-ups were safe before the id got here.

A task's retry has the id of its first run, so the number of retries is part of the key. An id may be sent
anew after it was finished: a delivery of it that goes back before it was run is marked as redelivered too,
so whoever gives it back has its id forgotten here.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterable

KEY_BYTES = 48
RING_KEYS = 1024
RING_BYTES = RING_KEYS * KEY_BYTES
_KEY = struct.Struct(f"{KEY_BYTES}s")


def key_of(task_id: str, retries: int) -> bytes:
    """The key of one attempt, as `engine.work.finished_keys` makes it; b"" for one that is too long."""
    raw = f"{task_id}/{retries};".encode("utf-8", "replace")
    return raw.ljust(KEY_BYTES) if len(raw) <= KEY_BYTES else b""


class Finished:
    """All rings, in one anonymous shared mapping. One writer a ring: the child in that slot."""

    def __init__(self, rings: int) -> None:
        self._map = mmap.mmap(-1, rings * RING_BYTES)
        self._next: dict[int, int] = {}

    def add(self, ring: int, keys: bytes) -> None:
        """Remember these, KEY_BYTES each, end to end; the oldest of the ring are forgotten."""
        start = ring * RING_BYTES
        place = self._next.get(ring, 0)
        keys = keys[-RING_BYTES:]
        room = RING_BYTES - place
        self._write(start + place, keys[:room])
        if len(keys) > room:
            self._write(start, keys[room:])
        self._next[ring] = (place + len(keys)) % RING_BYTES

    def _write(self, at: int, keys: bytes) -> None:
        self._map[at : at + len(keys)] = keys

    def forget(self, rings: int, keys: Iterable[bytes]) -> None:
        """Their next delivery is to be run, though it will be marked as redelivered."""
        for key in self.snapshot(rings).intersection(keys):
            if key:
                self._erase(rings, key)

    def forget_task(self, rings: int, task_id: str) -> None:
        """The same for every attempt of one task."""
        start = b"%s/" % task_id.encode("utf-8", "replace")
        for key in self.snapshot(rings):
            if key.startswith(start):
                self._erase(rings, key)

    def _erase(self, rings: int, key: bytes) -> None:
        end = rings * RING_BYTES
        at = self._map.find(key, 0, end)
        while at >= 0:
            if at % KEY_BYTES == 0:
                self._map[at : at + KEY_BYTES] = bytes(KEY_BYTES)
            at = self._map.find(key, at + 1, end)

    def snapshot(self, rings: int) -> frozenset[bytes]:
        """All keys of the first ``rings`` rings, taken once for a batch of redeliveries (60 ns a key)."""
        data = self._map[: rings * RING_BYTES]
        return frozenset(key for (key,) in _KEY.iter_unpack(data))
