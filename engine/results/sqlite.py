"""Results in an SQLite file: the broker's own, where a result and its acknowledgement are one transaction, or
any other.

A stored SUCCESS is never overwritten. Waiting is ended by a bell (`sqlite_waiting`), not by polling; a look
every `_SAFETY_POLL_S` covers a bell that could not ring.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import apsw

from engine.codec import json_decode, json_encode
from engine.results import sqlite_waiting
from engine.results.base import READY_STATES, ResultMeta, ResultStore
from engine.transport.base import Transport
from engine.transport.sqlite_database import Database, lost
from engine.transport.sqlite_place import path_of

_SAFETY_POLL_S = 1.0
_BELLS_AT_ONCE = 64
_EXPIRED_AT_ONCE = 500

_STORE = """
INSERT INTO results(task_id, status, expires_ms, meta) VALUES(?, ?, ?, ?)
ON CONFLICT(task_id) DO UPDATE
SET status = excluded.status, expires_ms = excluded.expires_ms, meta = excluded.meta
WHERE results.status <> 'SUCCESS'
"""
_FIND = """
SELECT meta FROM results
WHERE task_id IN (SELECT value FROM json_each(?)) AND (expires_ms IS NULL OR expires_ms > ?)
"""
_EXPIRE_RESULTS = f"""
DELETE FROM results WHERE task_id IN
(SELECT task_id FROM results WHERE expires_ms <= ? LIMIT {_EXPIRED_AT_ONCE})
"""  # noqa: S608 - a constant of this module
_EXPIRE_GROUPS = "DELETE FROM groups WHERE expires_ms <= ?"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class SqliteStore(ResultStore):
    """Results in one file.

    Args:
        url: ``sqlite:///results.db``, also spelled ``db+sqlite:///``.
        expires_s: seconds a result is kept; None or 0 keeps it for ever.
        transport: this process's transport; when it has the same file open, its connection is shared.
    """

    def __init__(
        self, url: str, *, expires_s: float | None = None, transport: Transport | None = None
    ) -> None:
        self.path = path_of(url)
        self._expires_s = expires_s
        self._transport = transport
        self._own: Database | None = None
        self._pid = 0
        self._waiting_folder = sqlite_waiting.waiting_folder(self.path)

    def _database(self) -> Database:
        """The transport's where it is the same file; else our own, opened anew in a forked process."""
        if self._transport is not None:
            shared = self._transport.shared_connection
            if isinstance(shared, Database) and shared.path == self.path and self._transport.connected:
                return shared
        if self._own is None or self._pid != os.getpid():
            self._own = Database(self.path)
            self._pid = os.getpid()
        return self._own

    @contextmanager
    def _using(self) -> Iterator[Database]:
        database = self._database()
        try:
            yield database
        except apsw.Error as error:
            raise lost(self.path, error) from error

    def _expires_ms(self) -> int | None:
        return None if not self._expires_s else _now_ms() + int(self._expires_s * 1000)

    # -- writing ---------------------------------------------------------------------------------------

    def store(self, metas: Sequence[ResultMeta]) -> None:
        expires_ms = self._expires_ms()
        rows = [(meta.task_id, meta.status, expires_ms, json_encode(meta.to_wire())) for meta in metas]
        ended = [meta.task_id for meta in metas if meta.status in READY_STATES]
        with self._using() as database, database.write(durable=True) as connection:
            connection.executemany(_STORE, rows)
            if ended:
                database.after_commit(lambda: sqlite_waiting.ring(self._waiting_folder, ended))

    def forget(self, task_id: str) -> None:
        with self._using() as database, database.write() as connection:
            connection.execute("DELETE FROM results WHERE task_id = ?", (task_id,))

    def expire(self) -> int:
        """In small transactions, so that nobody waits long for the file."""
        moment = _now_ms()
        expired = 0
        sqlite_waiting.sweep(self._waiting_folder)
        with self._using() as database:
            while True:
                with database.write() as connection:
                    connection.execute(_EXPIRE_RESULTS, (moment,))
                    some = connection.changes()
                    expired += some
                    if some < _EXPIRED_AT_ONCE:
                        connection.execute(_EXPIRE_GROUPS, (moment,))
                        return expired

    # -- reading ---------------------------------------------------------------------------------------

    def get(self, task_id: str) -> ResultMeta | None:
        return self.get_many([task_id]).get(task_id)

    def get_many(self, task_ids: Sequence[str]) -> dict[str, ResultMeta]:
        with self._using() as database:
            wanted = json_encode(list(task_ids)).decode()
            rows = database.connection.execute(_FIND, (wanted, _now_ms())).fetchall()
        metas = [ResultMeta.from_wire(json_decode(meta)) for (meta,) in rows]
        return {meta.task_id: meta for meta in metas}

    def wait(self, task_id: str, timeout: float | None) -> ResultMeta | None:
        return self._wait_as_last_time(task_id, timeout)

    def iter_ready(self, task_ids: Sequence[str], timeout: float | None) -> Generator[ResultMeta, None, None]:
        """As they come; ends at the timeout, which counts from the start."""
        deadline_mono_s = None if timeout is None else time.monotonic() + timeout
        missing = dict.fromkeys(task_ids)
        with sqlite_waiting.Waiting(self._waiting_folder) as waiting:
            while missing:
                for task_id in missing:
                    if len(waiting) >= _BELLS_AT_ONCE:
                        break
                    if task_id not in waiting:
                        waiting.add(task_id)
                found = self._ready(list(missing))
                for meta in found:
                    del missing[meta.task_id]
                    waiting.remove(meta.task_id)
                yield from found
                if not found:
                    left_s = _SAFETY_POLL_S
                    if deadline_mono_s is not None:
                        left_s = min(left_s, deadline_mono_s - time.monotonic())
                    if left_s <= 0:
                        return
                    self._looks_first = False
                    waiting.sleep(left_s)

    def _ready(self, task_ids: list[str]) -> list[ResultMeta]:
        return [meta for meta in self.get_many(task_ids).values() if meta.status in READY_STATES]

    # -- groups ----------------------------------------------------------------------------------------

    def save_group(self, group_id: str, task_ids: Sequence[Any]) -> None:
        with self._using() as database, database.write(durable=True) as connection:
            connection.execute(
                "INSERT OR REPLACE INTO groups(group_id, expires_ms, members) VALUES(?, ?, ?)",
                (group_id, self._expires_ms(), json_encode(list(task_ids))),
            )

    def get_group(self, group_id: str) -> list[Any] | None:
        with self._using() as database:
            members = database.connection.execute(
                "SELECT members FROM groups WHERE group_id = ? AND (expires_ms IS NULL OR expires_ms > ?)",
                (group_id, _now_ms()),
            ).get
        return None if members is None else list(json_decode(members))

    def close(self) -> None:
        own, self._own = self._own, None
        if own is not None:
            if self._pid == os.getpid():
                own.close()
            else:
                own.forsake()
