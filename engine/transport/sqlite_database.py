"""One process's connection to an SQLite broker file: opening it safely, and writing to it in turn.

Rules
-----
* Writers wait in line: a lock on ``<file>-writer`` is taken around each write transaction, and the kernel
  wakes the next one. SQLite's own way, sleeping and trying again, made the unlucky wait for a second
  (measured with two writers). Programs that do not stand in line, such as the sqlite3 shell, are met with a
  busy timeout.
* Only publishing waits for the disk (synchronous=FULL). A claim or an acknowledgement that a power cut takes
  back is made again; a confirmed message may not be lost.
* A forked child closes what it inherits at once, without a checkpoint: nothing is written, and SQLite forgets
  that the file was ever open. (Left open, it would go on believing in locks that only the parent has, and a
  connection the child opens itself would take none.)
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw

from engine.errors import ConfigurationError, ConnectionFailed, ConnectionLost
from engine.transport.sqlite_place import beside, make_private, refuse_network_filesystem
from engine.transport.sqlite_schema import APPLICATION_ID, SCHEMA, SCHEMA_VERSION

BUSY_TIMEOUT_MS = 30_000

#: Pages in the write-ahead log before a commit copies them to the file: 8 MiB.
_CHECKPOINT_PAGES = 2_000
_LOG_LIMIT_BYTES = 32 * 1024 * 1024

#: With more free pages than this (64 MiB), a part of them is given back.
_FREE_PAGES = 16_384

_PRAGMAS = (
    f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}",
    f"PRAGMA journal_size_limit = {_LOG_LIMIT_BYTES}",
    "PRAGMA cache_size = -8000",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA synchronous = NORMAL",
)


class Database:
    """An open file. Used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Opens it, made new if need be. Raises ConnectionFailed, ConfigurationError."""
        if path in _broken:
            raise ConnectionFailed(
                f"this process was forked while a thread was writing {path}, so it cannot open it again: "
                "fork before starting threads, or use multiprocessing's spawn"
            )
        self.path = path
        self._durable = False
        self._after_commit: list[Callable[[], None]] = []
        refuse_network_filesystem(path)
        make_private(path)
        self._line = _open_side_file(beside(path, "-writer"))
        try:
            self.connection = _open(path)
            self._prepare()
            self._inode = path.stat().st_ino
        except apsw.Error as error:
            self.close()
            raise ConnectionFailed(_damaged(path, error) or f"cannot open {path}: {error}") from error
        except BaseException:
            self.close()
            raise
        _live.add(weakref.ref(self, _live.discard))

    def _prepare(self) -> None:
        connection = self.connection
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        with self._in_line():
            version = connection.pragma("user_version")
            if version == 0:
                self._create()
            elif connection.pragma("application_id") != APPLICATION_ID:
                raise ConfigurationError(f"{self.path} is another program's database: name a file of its own")
            elif version > SCHEMA_VERSION:
                raise ConfigurationError(
                    f"{self.path} was written by a newer version (schema {version}, this one knows "
                    f"{SCHEMA_VERSION}): upgrade here, or name another file"
                )
        for pragma in _PRAGMAS:
            connection.execute(pragma).fetchall()

    def _create(self) -> None:
        connection = self.connection
        if connection.execute("SELECT count(*) FROM sqlite_master").get:
            raise ConfigurationError(f"{self.path} is another program's database: name a file of its own")
        connection.pragma("auto_vacuum", 2)  # incremental; it must be set before the first table
        if connection.pragma("journal_mode", "wal") != "wal":
            raise ConnectionFailed(f"{self.path}: this filesystem does not allow SQLite's write-ahead log")
        with connection:
            connection.execute(SCHEMA)

    @contextlib.contextmanager
    def _in_line(self) -> Iterator[None]:
        try:  # a signal may raise as soon as the lock is ours
            fcntl.flock(self._line, fcntl.LOCK_EX)
            yield
        finally:
            fcntl.flock(self._line, fcntl.LOCK_UN)

    # -- writing ---------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def write(self, *, durable: bool = False) -> Iterator[apsw.Connection]:
        """A write transaction; inside another one, a part of it. `durable` waits for the disk.

        apsw's errors come out as they are, with everything rolled back."""
        connection = self.connection
        if connection.in_transaction:
            yield connection
            return
        if durable is not self._durable:
            connection.execute("PRAGMA synchronous = FULL" if durable else "PRAGMA synchronous = NORMAL")
            self._durable = durable
        with self._in_line():
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                self._after_commit.clear()
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        callbacks, self._after_commit = self._after_commit, []
        for callback in callbacks:
            callback()

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call it when what is being written can be seen by others; at once outside a transaction."""
        if self.connection.in_transaction:
            self._after_commit.append(callback)
        else:
            callback()

    def check_in_place(self) -> None:
        """Raises ConnectionLost when somebody has deleted or replaced the file under us."""
        try:
            inode = self.path.stat().st_ino
        except FileNotFoundError:
            inode = -1
        if inode != self._inode:
            raise ConnectionLost(
                f"{self.path} was deleted or replaced: messages sent to it are not seen here"
            )

    # -- the end ---------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close in this process. Never raises; idempotent."""
        line, self._line = self._line, -1
        if line >= 0:
            os.close(line)
        connection = self.__dict__.pop("connection", None)
        if connection is not None:
            with contextlib.suppress(apsw.Error):
                connection.close()

    def forsake(self) -> None:
        """Close in a forked child, without a word to the file. Never raises; idempotent."""
        connection = self.__dict__.get("connection")
        if connection is not None:
            try:
                if connection.in_transaction:
                    raise apsw.BusyError("forked inside a transaction")
                connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
                connection.close(True)
            except apsw.Error:  # another thread was using it: it can't be closed, so it must live for ever
                import ctypes

                ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
                _broken.add(self.path)
                _cut_descriptors(self.path)
        self.close()

    def restart_log(self) -> None:
        """Copy the log to the file and begin it anew, in the space it has. As far as it goes."""
        with contextlib.suppress(apsw.Error):
            self.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)

    def shrink(self) -> None:
        """Give pages back to the disk, when a great many are free."""
        free = self.connection.execute("PRAGMA freelist_count").get
        if free > _FREE_PAGES:
            with self.write() as connection:
                connection.execute(f"PRAGMA incremental_vacuum({_FREE_PAGES // 4})").fetchall()


def lost(path: Path, error: apsw.Error) -> ConnectionLost:
    """The error a caller can deal with, for one of SQLite's."""
    if isinstance(error, apsw.FullError):
        return ConnectionLost(f"the disk is full: {path} cannot be written ({error})")
    return ConnectionLost(_damaged(path, error) or f"{path}: {error}")


def _damaged(path: Path, error: apsw.Error) -> str | None:
    """What to say and advise when the file's content is broken; None for other errors."""
    if not isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return None
    return (
        f"{path} is damaged, SQLite cannot read it ({error}): stop what uses it, keep a copy of it and of "
        f"{path.name}-wal, and remove it to begin with a new one (sqlite3's .recover saves what it can)"
    )


def _open(path: Path) -> Any:
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOFOLLOW
    return apsw.Connection(os.path.realpath(path.parent) + f"/{path.name}", flags=flags)


def _open_side_file(path: Path) -> int:
    try:
        return os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConnectionFailed(f"cannot open {path}: {error.strerror}") from error


def _cut_descriptors(path: Path) -> None:
    """Turn this process's descriptors of the file and its log into /dev/null. Connections share and swap
    theirs, so they are found by name; "(deleted)" may follow it."""
    real = os.path.realpath(path.parent) + f"/{path.name}"
    names = (real, f"{real}-wal", f"{real}-shm")
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for entry in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{entry}").removesuffix(" (deleted)") in names:
                os.dup2(null, int(entry), inheritable=False)
    os.close(null)


#: Files that this process can't use any more.
_broken: set[Path] = set()

#: no WeakSet: a forked process would run its Python, and have copies of that memory
_live: set[weakref.ref[Database]] = set()


def _forsake_inherited() -> None:
    for known in list(_live):
        if (database := known()) is not None:
            database.forsake()
    _live.clear()


os.register_at_fork(after_in_child=_forsake_inherited)
