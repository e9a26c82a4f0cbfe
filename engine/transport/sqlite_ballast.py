"""Space kept back so that acknowledgements still work on a full disk.

An acknowledgement writes to the log. When that cannot grow, it is copied to the file and begun anew in the
space it has (`Room`). What was published last may not fit into the file: for that a file of real blocks is
kept beside the broker's, and deleted when all else fails. While it is gone, publishing is refused, so that
what it freed goes to nobody else. It is put back as soon as there is room.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import apsw

from engine.transport.sqlite_database import Database
from engine.transport.sqlite_place import beside

#: As much as the log may hold: copying it makes the file grow by no more.
BALLAST_BYTES = 8 * 1024 * 1024

#: For so long after a full disk the log is begun anew before each transaction.
_TIGHT_S = 60.0

T = TypeVar("T")


class Ballast:
    """One broker file's reserve; every process sees the same."""

    def __init__(self, database: Path, size: int = BALLAST_BYTES) -> None:
        self._path = beside(database, "-ballast")
        self._size = size

    def in_place(self) -> bool:
        """Whether the reserve is there, or could be put back just now."""
        return os.path.exists(self._path) or self.put_back()

    def put_back(self) -> bool:
        """Reserve the space; False when there is none. Twice as much must be free: else it would be taken
        from the very writers it was spent for."""
        if self._path.exists():
            return True
        try:
            space = os.statvfs(self._path.parent)
        except OSError:
            return False
        if space.f_bavail * space.f_frsize < 2 * self._size:
            return False
        half_made = beside(self._path, f".{os.getpid()}")
        try:
            fd = os.open(half_made, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, self._size)
            finally:
                os.close(fd)
            half_made.rename(self._path)
        except OSError:
            with contextlib.suppress(OSError):
                half_made.unlink()
            return False
        return True

    def spend(self) -> bool:
        """Free the space; whether there was any."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True


class Room:
    """Makes room for what consumers must be able to write on a full disk."""

    def __init__(self, ballast: Ballast) -> None:
        self._ballast = ballast
        self._tight_until_mono_s = 0.0

    def write(self, database: Database, operation: Callable[[], T]) -> T:
        """Do it; on a full disk again, first with the log begun anew, then with the ballast spent. Inside a
        transaction nothing can be done again: see `make`."""
        try:
            return operation()
        except apsw.FullError:
            if database.connection.in_transaction:
                raise
        self.make(database)
        try:
            return operation()
        except apsw.FullError:
            self.make(database)
        return operation()

    def prepare(self, database: Database) -> None:
        """Before a transaction that can't be done again half-way."""
        if time.monotonic() < self._tight_until_mono_s:
            database.restart_log()

    def make(self, database: Database) -> None:
        """The disk was full just now. When that is no news, the ballast goes."""
        if time.monotonic() < self._tight_until_mono_s:
            self._ballast.spend()
        self._tight_until_mono_s = time.monotonic() + _TIGHT_S
        database.restart_log()
