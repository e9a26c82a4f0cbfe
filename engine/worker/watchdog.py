"""Who must be killed: past a hard time limit, stuck at boot, or deaf. Reads slots, decides, kills nobody.

A running task has only its own hard limit: without one it may run for ever, that is the user's choice. A
child that is *not* in a task and gives no sign of life is broken (a lock inherited by the fork, a call into
the broker that never returns) and is replaced.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.worker import scoreboard
from engine.worker.children import KILLED_AT_BOOT, Child, State
from engine.worker.scoreboard import SlotView

HARD_LIMIT = "hard time limit"
BOOT = KILLED_AT_BOOT
DEAF = "no sign of life"

_NOT_IN_A_TASK = (scoreboard.IDLE, scoreboard.SETTLING, scoreboard.RECONNECTING, scoreboard.DRAINING)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Kill this child, for this reason. ``over_s``: by how much it is late."""

    reason: str
    over_s: float


def judge(
    child: Child, view: SlotView | None, now: float, boot_deadline_s: float, deaf_after_s: float
) -> Verdict | None:
    """The verdict on one child, or None when all is well (or cannot be seen right now)."""
    if child.state is State.KILLED or not child.pid:
        return None
    if view is None or view.pid != child.pid or view.phase in (scoreboard.EMPTY, scoreboard.BOOTING):
        late = now - child.spawned_mono_s - boot_deadline_s
        return Verdict(BOOT, late) if late > 0 and child.state is State.STARTING else None
    if scoreboard.is_running(view.phase):
        late = now - view.deadline_mono_s
        return Verdict(HARD_LIMIT, late) if view.deadline_mono_s and late > 0 else None
    if view.phase in _NOT_IN_A_TASK:
        late = now - view.stamp_mono_s - deaf_after_s
        return Verdict(DEAF, late) if late > 0 else None
    return None
