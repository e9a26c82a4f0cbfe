"""What a child's death means for the task it ran: whom to blame, what to tell its siblings, what to log.

Order matters: the verdict is sent to the siblings before a deliberate kill, and before the slot of a dead
child is cleared. A sibling that receives the redelivery looks at the slots, then reads its messages: so it
cannot miss the verdict.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from engine.worker import processes, scoreboard
from engine.worker.children import Child, Death
from engine.worker.quarantine import WORKER_LOST, Quarantine, Tombstone
from engine.worker.scoreboard import SlotView

log = logging.getLogger("engine.worker")


class Mortician:
    """Deals with deaths. ``broadcast(message, one)`` sends to all children, or to one."""

    def __init__(self, quarantine: Quarantine, broadcast: Callable[..., None]) -> None:
        self._quarantine = quarantine
        self._broadcast = broadcast

    def time_limit(self, child: Child, view: SlotView, stack: str | None) -> None:
        """A task passed its hard limit: tell the siblings, then the caller kills the child."""
        limit_s = round(view.deadline_mono_s - view.started_mono_s, 3)
        log.error(
            "Task %s[%s] passed its hard time limit of %g s: killing child %d",
            view.task_name,
            view.task_id,
            limit_s,
            child.pid,
        )
        tombstone = self._quarantine.timed_out(view.task_id, limit_s, stack)
        self._tell(tombstone, view)

    def terminated(self, child: Child, view: SlotView, signum: int) -> None:
        """A running task was revoked: tell the siblings, then the caller kills the child."""
        log.warning(
            "Task %s[%s] was revoked: ending child %d (%s)",
            view.task_name,
            view.task_id,
            child.pid,
            processes.signal_name(signum),
        )
        self._tell(self._quarantine.terminated(view.task_id, signum), view)

    def bury(self, child: Child, death: Death, code: int, view: SlotView | None, stopping: bool) -> None:
        """A child is gone; ``view`` is the last that its slot says."""
        if death in (Death.ORDERLY, Death.DELIBERATE):
            log.debug("child %d ended (%s)", child.pid, processes.exit_text(code))
            return
        how = processes.exit_text(code)
        if death is Death.BOOT_FAILURE and stopping and child.error:
            log.debug("child %d died at boot (%s): %s", child.pid, how, child.error)
            return
        if death is Death.BOOT_FAILURE:
            log.error("child %d died at boot (%s): %s", child.pid, how, child.error or "it told no reason")
            return
        if view is None or not scoreboard.is_running(view.phase) or not view.task_id:
            log.error("child %d died (%s), in no task", child.pid, how)
            return
        log.error("child %d died (%s) in task %s[%s]", child.pid, how, view.task_name, view.task_id)
        if stopping:
            return
        if view.phase == scoreboard.RUNNING_ACKED:  # nobody will deliver it again: it ends here
            self._tell(Tombstone(view.task_id, WORKER_LOST, how), view)
            return
        tombstone = self._quarantine.crashed(view.task_id, how)
        if tombstone.kind == WORKER_LOST:
            log.error("Task %s[%s] is quarantined: %s", view.task_name, view.task_id, tombstone.detail)
        self._tell(tombstone, view)

    def _tell(self, tombstone: Tombstone, view: SlotView) -> None:
        message: dict[str, Any] = tombstone.to_message()
        if view.phase == scoreboard.RUNNING_ACKED:
            self._quarantine.buried(tombstone.task_id)
            self._broadcast({**message, "op": "obituary"}, one=True)
        else:
            self._broadcast(message)
