"""The soft time limit: an exception raised in the main thread, armed around user code only.

The timer is the kernel's (ITIMER_REAL), so a task without a limit costs nothing. The handler raises only
while armed: a signal that comes in the moment the task ends finds the flag down and does nothing, so
neither the result's way into the store nor the acknowledgement can be interrupted.

The hard limit is not here: it stands in the scoreboard, and the supervisor enforces it from outside.
"""

from __future__ import annotations

import signal
from types import FrameType

from engine.errors import SoftTimeLimitExceeded


class SoftLimit:
    """The soft limit of this process's running task. Main thread only."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._armed = False

    def install(self) -> None:
        """Take SIGALRM. Once, at boot."""
        signal.signal(signal.SIGALRM, self._fire)

    def arm(self, seconds: float) -> None:
        self._seconds = seconds
        self._armed = True
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6))

    def disarm(self) -> None:
        """From here on nothing is raised, even if the signal is on its way."""
        self._armed = False
        signal.setitimer(signal.ITIMER_REAL, 0.0)

    def _fire(self, _signum: int, _frame: FrameType | None) -> None:
        if self._armed:
            self._armed = False
            raise SoftTimeLimitExceeded(self._seconds)


def resolve(*choices: float | None) -> float:
    """The first limit that is given, in seconds; 0.0 for none. A message's own comes before its task's, that
    before the worker's; an explicit 0 means no limit."""
    for choice in choices:
        if choice is not None:
            return float(choice)
    return 0.0
