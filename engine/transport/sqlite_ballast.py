"""Space kept back so that acknowledgements still work on a full disk.

A file of real blocks beside the broker's. When an acknowledgement meets a full disk it is deleted and the
acknowledgement made in its place; while it is gone, publishing is refused, so that what it freed goes to
nobody else. It is put back as soon as there is room.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from engine.transport.sqlite_place import beside

#: A log of this many bytes takes some hundred acknowledgements, and the checkpoint that empties it.
BALLAST_BYTES = 1024 * 1024


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
