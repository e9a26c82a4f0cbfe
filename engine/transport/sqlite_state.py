"""What an SQLite broker tells of a queue: counted from its index, never estimated."""

# ruff: noqa: S608 - what is put into statements here are constants
from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from engine.codec import json_decode
from engine.model import QueueState
from engine.transport.embedded import HIGHEST_PRIORITY
from engine.transport.sqlite_schema import DELAYED, READY
from engine.transport.sqlite_topology import StoredQueue

_IN_PLACE = "SELECT count(*) FROM messages WHERE owner = ? AND queue = ?"
_HELD = f"SELECT count(*) FROM messages WHERE owner > {DELAYED} AND queue = ?"
_OLDEST = (
    f"SELECT since_ms FROM messages WHERE owner = {READY} AND queue = ? AND priority = ? ORDER BY id LIMIT 1"
)


def queue_state(connection: Any, queue: StoredQueue, alive: Callable[[int], bool]) -> QueueState:
    consumers = [
        json_decode(names)
        for owner, names in connection.execute("SELECT id, queues FROM owners")
        if alive(owner)
    ]
    oldest = (
        connection.execute(_OLDEST, (queue.id, priority)).get for priority in range(HIGHEST_PRIORITY + 1)
    )
    oldest_ms = min((since_ms for since_ms in oldest if since_ms is not None), default=None)
    return QueueState(
        queue.name,
        ready=connection.execute(_IN_PLACE, (READY, queue.id)).get,
        unacked=connection.execute(_HELD, (queue.id,)).get,
        delayed=connection.execute(_IN_PLACE, (DELAYED, queue.id)).get,
        consumers=sum(queue.name in names for names in consumers),
        oldest_age_s=None if oldest_ms is None else max(0.0, time.time() - oldest_ms / 1000),
    )
