"""Waking whoever waits for a result in an SQLite file: a FIFO a waited-for task under ``<file>-waiting``.

The waiter makes it *before* it looks into the table; the worker opens it after its commit and writes a byte.
Where nobody waits there is no FIFO, and a stored result costs one failing open.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import select
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from engine.transport.sqlite_place import beside


def waiting_folder(database: Path) -> Path:
    return beside(database, "-waiting")


def _bell(folder: Path, task_id: str) -> str:
    digest = hashlib.blake2b(task_id.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return f"{folder}/{digest}"


def ring(folder: Path, task_ids: Iterable[str]) -> None:
    """Wake those who wait for these tasks. Never raises."""
    for task_id in task_ids:
        _ring_one(_bell(folder, task_id))


def _ring_one(path: str) -> bool:
    """Whether anybody listens; a FIFO that nobody listens to any more is removed."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENXIO:  # no reader: its process died
            with contextlib.suppress(OSError):
                os.unlink(path)
        return False
    with contextlib.suppress(OSError):
        os.write(fd, b"!")
    os.close(fd)
    return True


def sweep(folder: Path) -> int:
    """Remove what dead waiters left; how many. A living one is woken for nothing."""
    try:
        names = os.listdir(folder)
    except OSError:
        return 0
    return sum(not _ring_one(f"{folder}/{name}") for name in names)


def _make(path: str) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkfifo(path, 0o600)


class Waiting:
    """The bells of the tasks that one caller waits for. A context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fds: dict[str, int] = {}
        self._poll = select.poll()

    def __enter__(self) -> Waiting:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task_id in list(self._fds):
            self.remove(task_id)

    def __len__(self) -> int:
        return len(self._fds)

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._fds

    def add(self, task_id: str) -> None:
        """Listen for it. Where no FIFO can be made, the caller's own polling has to do."""
        path = _bell(self._folder, task_id)
        with contextlib.suppress(OSError):
            try:
                _make(path)
            except FileNotFoundError:  # the first to wait, ever
                with contextlib.suppress(FileExistsError):
                    self._folder.mkdir(mode=0o700)
                _make(path)
            fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
            self._fds[task_id] = fd
            self._poll.register(fd, select.POLLIN)

    def remove(self, task_id: str) -> None:
        fd = self._fds.pop(task_id, None)
        if fd is None:
            return
        self._poll.unregister(fd)
        with contextlib.suppress(OSError):
            os.unlink(_bell(self._folder, task_id))
        os.close(fd)

    def sleep(self, timeout_s: float) -> None:
        """Until a bell rings or the time is up."""
        for fd, _ in self._poll.poll(max(0.0, timeout_s) * 1000):
            with contextlib.suppress(BlockingIOError):
                os.read(fd, 65536)
