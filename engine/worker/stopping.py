"""When a stop turns cold, and when what still runs is killed. Pure: the clock is passed in.

*Warm*: children take nothing new, finish their task, settle it, hand back the rest; a drain deadline can
bound that. *Cold*: after a moment for children that are between two tasks, and the grace of
``worker_soft_shutdown_timeout`` for those in one, tasks are killed with all that they started; their messages
go back to their queues.
"""

from __future__ import annotations

import enum

#: between the cold stop's word and the kill: enough for a child between two tasks to settle
QUIT_GRACE_S = 0.2


class Due(enum.Enum):
    """What the time asks for."""

    NOTHING = "nothing"
    TURN_COLD = "turn cold"
    KILL = "kill"


class Stopping:
    """A stop under way, or none yet."""

    def __init__(self) -> None:
        self.cold = False
        self._deadline_mono_s: float | None = None

    def warm(self, now: float, drain_deadline_s: float | None) -> None:
        """The stop begins."""
        if drain_deadline_s is not None:
            self._deadline_mono_s = now + drain_deadline_s

    def turn_cold(self, now: float, grace_s: float) -> float:
        """Cold from here on, or once more. How long running tasks may still go on; 0.0 for not at all: only
        the first word of a cold stop grants them ``grace_s``, and never past the drain deadline."""
        grace_s = 0.0 if self.cold else grace_s
        self.cold = True
        deadline = now + max(grace_s, QUIT_GRACE_S)
        if grace_s and self._deadline_mono_s is not None:
            deadline = min(deadline, self._deadline_mono_s)
        self._deadline_mono_s = deadline
        return grace_s

    def due(self, now: float) -> Due:
        if self._deadline_mono_s is None or now < self._deadline_mono_s:
            return Due.NOTHING
        return Due.KILL if self.cold else Due.TURN_COLD
