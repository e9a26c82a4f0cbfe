"""Process signals as messages: a handler only enqueues, the loop reads between two steps.

``signal.set_wakeup_fd`` writes the number of each signal into a pipe from C, so nothing of ours runs at an
arbitrary point of the program. Only the supervisor uses this; a child resets everything first.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from types import FrameType

SUPERVISOR_SIGNALS = (
    signal.SIGCHLD,
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGUSR1,
)


def ignore_quietly(_signum: int, _frame: FrameType | None) -> None:
    """A handler that does nothing. Unlike SIG_IGN it is not inherited by programs a task starts."""


class SignalInbox:
    """A pipe of signal numbers, readable when a signal came."""

    def __init__(self, signals: Iterable[signal.Signals] = SUPERVISOR_SIGNALS) -> None:
        self._read_fd, self._write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before = {number: signal.signal(number, ignore_quietly) for number in signals}
        self._previous_fd = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)

    def fileno(self) -> int:
        return self._read_fd

    def read(self) -> list[int]:
        """The signals that came since the last read, in order; repeated ones once each."""
        try:
            data = os.read(self._read_fd, 4096)
        except BlockingIOError:
            return []
        return list(dict.fromkeys(data))

    def restore(self) -> None:
        """Give the signals back as they were found."""
        signal.set_wakeup_fd(self._previous_fd)
        for number, previous in self._before.items():
            signal.signal(number, previous if previous is not None else signal.SIG_DFL)
        self.close()

    def close(self) -> None:
        for fd in (self._read_fd, self._write_fd):
            with contextlib.suppress(OSError):
                os.close(fd)


def reset_after_fork() -> None:
    """In a forked process: no wakeup pipe, terminal and stop signals without effect until handlers are set.

    The pipe's descriptors are the parent's; the caller closes them."""
    signal.set_wakeup_fd(-1)
    for number in SUPERVISOR_SIGNALS:
        signal.signal(number, ignore_quietly)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
