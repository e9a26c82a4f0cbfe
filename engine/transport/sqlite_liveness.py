"""Who is alive: each consumer locks one byte of ``<file>-owners``, at the offset of its owner id.

The kernel releases the lock when the process dies, however it dies, so no lease has to be renewed. These are
POSIX locks on purpose: a child forked by a task doesn't inherit them and can't keep a dead owner alive. Their
price: closing *any* descriptor of the file drops all of the process's locks on it, and a process can't see
its own. So the file is opened once a process, and the ids held here are remembered.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import threading
from pathlib import Path

from engine.errors import ConnectionFailed
from engine.transport.sqlite_place import beside

_FLOCK = "hhqqi"  # struct flock, 64-bit Linux: type, whence, start, length, pid


class Owners:
    """The owners' file of one broker, as this process has it open."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self.held: set[int] = set()
        self.users = 0

    def hold(self, owner: int) -> None:
        """From now until `release`, or this process's death, `owner` is alive."""
        fcntl.fcntl(self._fd, fcntl.F_SETLK, _byte(fcntl.F_WRLCK, owner))
        self.held.add(owner)

    def release(self, owner: int) -> None:
        if owner in self.held:
            self.held.discard(owner)
            with contextlib.suppress(OSError):
                fcntl.fcntl(self._fd, fcntl.F_SETLK, _byte(fcntl.F_UNLCK, owner))

    def alive(self, owner: int) -> bool:
        if owner in self.held:
            return True
        answer = fcntl.fcntl(self._fd, fcntl.F_GETLK, _byte(fcntl.F_WRLCK, owner))
        return bool(struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _byte(kind: int, offset: int) -> bytes:
    return struct.pack(_FLOCK, kind, os.SEEK_SET, offset, 1, 0)


_opened: dict[str, Owners] = {}
_opened_lock = threading.Lock()


def enter(database: Path) -> Owners:
    """The owners' file of that database; `leave` it when done. Raises ConnectionFailed."""
    path = beside(database, "-owners")
    key = os.path.realpath(path)
    with _opened_lock:
        owners = _opened.get(key)
        if owners is None:
            try:
                owners = _opened[key] = Owners(path)
            except OSError as error:
                raise ConnectionFailed(f"cannot open {path}: {error.strerror}") from error
        owners.users += 1
        return owners


def leave(owners: Owners) -> None:
    with _opened_lock:
        owners.users -= 1
        if owners.users <= 0:
            for key in [key for key, known in _opened.items() if known is owners]:
                del _opened[key]
            owners.close()


def _forget_inherited() -> None:
    """In a forked child: its locks were never ours."""
    global _opened_lock
    _opened_lock = threading.Lock()
    for owners in _opened.values():
        owners.close()
        owners.held.clear()
    _opened.clear()


os.register_at_fork(after_in_child=_forget_inherited)
