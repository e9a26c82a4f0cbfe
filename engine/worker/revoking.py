"""Revoking, in the supervisor: ids are written where all children see them, and running tasks are ended.

Ending a task must hit that task and no other: the child is stopped (SIGSTOP) first, then its slot is read
again, and only if it still says the same task and the same start is the verdict told and the child killed;
else it goes on. A stopped child cannot begin or finish anything meanwhile. A task whose child was about to
begin it when the command came is looked for once more in the following seconds.

With SIGKILL the child's process group ends at once. Any other signal is for what the task started: the group
gets it, and what is left of the group is killed half a second later. The child itself stays stopped until
then: no code of the task runs on after the verdict, so its ``finally`` clauses do not run.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Sequence

from engine.worker import processes, scoreboard
from engine.worker.children import Child, Children, State
from engine.worker.mortician import Mortician
from engine.worker.revoked import CAPACITY, RevokedIds
from engine.worker.scoreboard import Scoreboard, SlotView, slot_id
from engine.worker.statefile import StateFile, open_state

log = logging.getLogger("engine.worker")

REVOKED = "revoked"
_GRACE_S = 0.5
_LOOK_FOR_S = 2.0


class Revoking:
    """What the supervisor knows of revoked tasks."""

    def __init__(self, board: Scoreboard, children: Children, mortician: Mortician) -> None:
        self._board = board
        self._children = children
        self._mortician = mortician
        self.ids = RevokedIds(board.revoked)
        self._state: StateFile | None = None
        self._wanted: dict[str, tuple[int, float]] = {}  # as slots show ids: the signal, and until when

    def revoke(self, task_ids: Sequence[str], signum: int | None, now: float) -> None:
        """These are not to be run; with a signal, not to run on either."""
        self._keep(self.ids.add_new(task_ids))
        for child in self._children:
            self._board.slot(child.slot).announce_news()
        if signum is None:
            log.info("revoked: %d tasks, the first is %s", len(task_ids), task_ids[0])
            return
        for task_id in task_ids:
            self._wanted[slot_id(task_id)] = (signum, now + _LOOK_FOR_S)
        self._hunt(now)

    def remember_in(self, pattern: str, nodename: str) -> None:
        """Take over what a file keeps of earlier runs, and go on keeping it there (``worker_state_db``)."""
        if self._state is not None:
            return
        self._state = open_state(pattern, nodename, CAPACITY)
        if self._state is not None:
            self.ids.add_new(self._state.keys)

    def _keep(self, keys: Sequence[str]) -> None:
        if self._state is None or not keys:
            return
        try:
            self._state.append(keys)
        except OSError as error:
            log.error("what was revoked is forgotten at a restart: %s: %s", self._state.path, error)

    def close(self) -> None:
        """Let go of the file."""
        if self._state is not None:
            self._state.close()

    def tick(self, now: float) -> None:
        """What is due."""
        for child in self._children:
            if child.kill_mono_s and now >= child.kill_mono_s:
                child.kill_mono_s = 0.0
                processes.kill_group(child.pid, signal.SIGKILL)
        if self._wanted:
            self._hunt(now)
            self._wanted = {key: found for key, found in self._wanted.items() if found[1] > now}

    def _hunt(self, now: float) -> None:
        for child in self._children:
            if child.pid and child.state is not State.KILLED:
                view = self._running(child)
                if view is not None:
                    self._end(child, view, self._wanted[view.task_id][0], now)

    def _running(self, child: Child) -> SlotView | None:
        """What the child's slot says, when it runs one of the wanted."""
        view = self._board.slot(child.slot).read()
        if view is None or not scoreboard.is_running(view.phase) or view.task_id not in self._wanted:
            return None
        return view

    def _end(self, child: Child, view: SlotView, signum: int, now: float) -> None:
        processes.freeze(child.pid)
        after = self._running(child)
        if after is None or (after.task_id, after.started_mono_s) != (view.task_id, view.started_mono_s):
            processes.thaw(child.pid)  # it has ended meanwhile; or the next tick looks again
            return
        child.state = State.KILLED
        child.killed_for = REVOKED
        self._mortician.terminated(child, after, signum)
        processes.kill_group(child.pid, signum)
        if signum != signal.SIGKILL:
            child.kill_mono_s = now + _GRACE_S
