"""Waking an idle consumer: a FIFO per queue under ``<file>-bell``, rung after each commit.

A publisher writes one byte a message (a few at most); each write wakes about one of the consumers that sleep
in epoll with EPOLLEXCLUSIVE. A consumer that has claimed all it may and sees that more could be there rings
for the next one, so a burst wakes everybody without waking everybody at once.

No wake-up is lost: the byte comes after the commit, and whoever takes it out looks into the queue after that.
A byte too many costs one look.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import select
from collections.abc import Sequence
from pathlib import Path

from engine.transport.sqlite_place import beside

logger = logging.getLogger(__name__)

#: One ring wakes this many at most; they wake the others.
_RINGS_AT_ONCE = 8
_BELLS_KEPT_OPEN = 64
#: How often to look where no FIFO can be made.
_DEAF_POLL_S = 0.05


def bell_path(database: Path, name: str) -> Path:
    """The FIFO of a queue. Its name is hashed: queue names may hold anything."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
    return beside(database, "-bell") / digest


def open_bell(path: Path) -> int:
    """Open the FIFO, made if need be. For reading *and* writing, so that opening never waits, and what was
    rung is kept while anybody has it open."""
    flags = os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        with contextlib.suppress(FileExistsError):
            path.parent.mkdir(mode=0o700)
        with contextlib.suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        return os.open(path, flags)


class Doorbell:
    """The bells one transport rings, and those it listens to."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._ringing: dict[str, int] = {}
        self._listening: list[int] = []
        self._wake_fds: tuple[int, ...] = ()
        self._epoll: select.epoll | None = None
        self._deaf = False

    def ring(self, name: str, count: int = 1) -> None:
        fd = self._ringing.get(name)
        if fd is None:
            if len(self._ringing) >= _BELLS_KEPT_OPEN:
                os.close(self._ringing.pop(next(iter(self._ringing))))
            try:
                fd = self._ringing[name] = open_bell(bell_path(self._database, name))
            except OSError as error:
                self._complain(error)
                return
        with contextlib.suppress(OSError):  # full: there are bytes enough to wake everybody
            for _ in range(min(count, _RINGS_AT_ONCE)):
                os.write(fd, b"!")

    def listen(self, names: Sequence[str]) -> None:
        """Be woken by these bells and by no others."""
        self._close_listening()
        self._epoll = select.epoll()
        for name in names:
            try:
                fd = open_bell(bell_path(self._database, name))
            except OSError as error:
                self._deaf = True
                self._complain(error)
                continue
            self._listening.append(fd)
            self._epoll.register(fd, select.EPOLLIN | select.EPOLLEXCLUSIVE)

    def wait(self, timeout_s: float, wake_fds: tuple[int, ...]) -> tuple[bool, bool]:
        """Sleep until a bell rings, a descriptor turns readable or the time is up; whether a bell did, and
        whether a descriptor.

        Only for a consumer that will claim at once: it takes a wake-up from the others."""
        epoll = self._epoll
        if epoll is None:
            epoll = self._epoll = select.epoll()
        if wake_fds != self._wake_fds:
            self._watch(epoll, wake_fds)
        if self._deaf:
            timeout_s = min(timeout_s, _DEAF_POLL_S)
        ready = {fd for fd, _ in epoll.poll(max(0.0, timeout_s))}
        rung = False
        for fd in ready.intersection(self._listening):
            with contextlib.suppress(BlockingIOError):  # a sibling was faster
                os.read(fd, 65536)
                rung = True
        return rung, not ready.isdisjoint(wake_fds)

    @staticmethod
    def wait_deaf(timeout_s: float, wake_fds: tuple[int, ...]) -> bool:
        """Sleep until a descriptor turns readable or the time is up, leaving the bells to others."""
        poll = select.poll()
        for fd in wake_fds:
            poll.register(fd, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))

    def _watch(self, epoll: select.epoll, wake_fds: tuple[int, ...]) -> None:
        for fd in self._wake_fds:
            with contextlib.suppress(OSError):
                epoll.unregister(fd)
        for fd in wake_fds:
            epoll.register(fd, select.EPOLLIN)
        self._wake_fds = wake_fds

    def _complain(self, error: OSError) -> None:
        logger.warning(
            "cannot use the doorbell of %s (%s): idle consumers will look for work every %g s",
            self._database,
            error.strerror,
            _DEAF_POLL_S,
        )

    def _close_listening(self) -> None:
        for fd in self._listening:
            os.close(fd)
        self._listening = []
        self._wake_fds = ()
        if self._epoll is not None:
            self._epoll.close()
            self._epoll = None

    def close(self) -> None:
        """Close every descriptor; also right in a forked child, where nothing is said to the epoll."""
        self._close_listening()
        for fd in self._ringing.values():
            os.close(fd)
        self._ringing = {}
