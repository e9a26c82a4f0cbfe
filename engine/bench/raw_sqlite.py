"""SQLite at its own pace: rows inserted, claimed and deleted in batches, in a file of this run's own.

As the engine does, only publishing waits for the disk, and writers stand in line at a lock, because SQLite's
own way (sleep and try again) makes two of them slower than one.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import apsw

from engine.bench.leftovers import own_file
from engine.bench.plan import Plan
from engine.bench.raw_common import ACK_EVERY, Received
from engine.codec import Message, decode_envelope, encode_envelope

_POLL_S = 0.001
_SCHEMA = """
CREATE TABLE IF NOT EXISTS messages(id INTEGER PRIMARY KEY, owner INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS by_owner ON messages(owner, id);
"""
_INSERT = "INSERT INTO messages(owner, body) VALUES(0, ?)"
_PEEK = "SELECT 1 FROM messages WHERE owner = 0 LIMIT 1"
_CLAIM = (
    "UPDATE messages SET owner = ? WHERE id IN (SELECT id FROM messages WHERE owner = 0 ORDER BY id LIMIT ?) "
    "RETURNING body"
)
_DROP = "DELETE FROM messages WHERE owner = ?"


class File:
    """The run's own file, open."""

    def __init__(self, plan: Plan, synchronous: str) -> None:
        path = own_file(plan)
        self._line = os.open(f"{path}-writer", os.O_CREAT | os.O_RDWR, 0o600)
        self.connection = apsw.Connection(str(path))
        self.connection.set_busy_timeout(30_000)
        self.connection.pragma("journal_mode", "wal")
        self.connection.pragma("synchronous", synchronous)
        with self.write() as connection:
            connection.execute(_SCHEMA)

    @contextmanager
    def write(self) -> Iterator[Any]:
        """One transaction, in line with the other writers."""
        fcntl.flock(self._line, fcntl.LOCK_EX)
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            yield self.connection
            self.connection.execute("COMMIT")
        finally:
            fcntl.flock(self._line, fcntl.LOCK_UN)

    def close(self) -> None:
        self.connection.close()
        os.close(self._line)


class Sender:
    """Inserts, each transaction on the disk before the next if the plan wants confirms."""

    def __init__(self, plan: Plan) -> None:
        self._file = File(plan, "FULL" if plan.confirm else "NORMAL")

    def encode(self, message: Message) -> bytes:
        return encode_envelope(message, message.correlation_id or "")

    def one_by_one(self, data: bytes, count: int) -> None:
        self.many(data, count, 1)

    def many(self, data: bytes, count: int, window: int) -> None:
        for start in range(0, count, window):
            rows = [(data,)] * min(window, count - start)
            with self._file.write() as connection:
                connection.executemany(_INSERT, rows)

    def close(self) -> None:
        self._file.close()


def work(plan: Plan, received: Received) -> None:
    """Claim batches for ever, each deleted in the transaction that claims the next."""
    file, owner, at_once = File(plan, "NORMAL"), os.getpid(), plan.at_once(ACK_EVERY)
    while True:
        with file.write() as connection:
            connection.execute(_DROP, (owner,))
            batch = connection.execute(_CLAIM, (owner, at_once)).fetchall()
        if batch:
            received(len(batch), lambda first=batch[0][0]: decode_envelope(first))  # type: ignore[misc]
        else:
            while file.connection.execute(_PEEK).get is None:
                time.sleep(_POLL_S)
