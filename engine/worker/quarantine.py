"""Which tasks must not be run again: crash counts and tombstones. Pure bookkeeping, no system call.

A **tombstone** says how a task ended that killed its child, or had to be killed. The supervisor writes it and
tells every child; the child that gets the task's redelivery settles it accordingly instead of running it, and
reports it *buried*, upon which the tombstone is taken down (so that the same id can be published anew).

Only the task that the scoreboard names is blamed: messages that were merely prefetched beside it are
innocent.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

TIME_LIMIT = "time_limit"
WORKER_LOST = "worker_lost"
TERMINATED = "terminated"  #: it was revoked while it ran
CRASHED = "crashed"  #: it killed its child, not yet too often: it may run again, unless its task forbids that

#: how many ids are remembered; the oldest are forgotten first
CAPACITY = 10_000


@dataclass(frozen=True, slots=True)
class Tombstone:
    """How a task ended that cannot tell it itself."""

    task_id: str
    kind: str  #: TIME_LIMIT, WORKER_LOST, TERMINATED or CRASHED
    detail: str  #: for people: the signal, the limit, the number of crashes
    limit_s: float | None = None
    stack: str | None = None  #: where the child was when it was killed
    signum: int | None = None  #: TERMINATED: by which signal

    def to_message(self) -> dict[str, Any]:
        """As it travels over the control socket; the stack is bounded, its innermost frames come first."""
        return {
            "op": "tombstone",
            "id": self.task_id,
            "kind": self.kind,
            "detail": self.detail,
            "limit_s": self.limit_s,
            "stack": self.stack[:16_000] if self.stack else None,
            "signum": self.signum,
        }

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> Tombstone:
        return cls(
            message["id"],
            message["kind"],
            message["detail"],
            message.get("limit_s"),
            message.get("stack"),
            message.get("signum"),
        )


class Quarantine:
    """The supervisor's memory of crashes."""

    def __init__(self, max_crashes: int) -> None:
        self.max_crashes = max_crashes
        self._crashes: OrderedDict[str, int] = OrderedDict()
        self.tombstones: OrderedDict[str, Tombstone] = OrderedDict()

    def crashed(self, task_id: str, how: str) -> Tombstone:
        """A child died while it ran this task. WORKER_LOST when that was once too often, else CRASHED."""
        count = self._crashes.pop(task_id, 0) + 1
        self._crashes[task_id] = count
        _trim(self._crashes)
        if count < self.max_crashes:
            return self._raise(Tombstone(task_id, CRASHED, how))
        del self._crashes[task_id]
        return self._raise(
            Tombstone(task_id, WORKER_LOST, f"{how}; the task has killed its child {count} times")
        )

    def timed_out(self, task_id: str, limit_s: float, stack: str | None) -> Tombstone:
        """A child had to be killed since this task passed its hard time limit."""
        detail = f"killed at its hard time limit of {limit_s:g} s"
        return self._raise(Tombstone(task_id, TIME_LIMIT, detail, limit_s, stack))

    def terminated(self, task_id: str, signum: int) -> Tombstone:
        """A child is killed since this task was revoked."""
        return self._raise(Tombstone(task_id, TERMINATED, "terminated", signum=signum))

    def buried(self, task_id: str) -> bool:
        """A child has settled the task, by its tombstone or by a run. False when there was none."""
        self._crashes.pop(task_id, None)
        return self.tombstones.pop(task_id, None) is not None

    def crashes(self, task_id: str) -> int:
        return self._crashes.get(task_id, 0)

    def _raise(self, tombstone: Tombstone) -> Tombstone:
        self.tombstones[tombstone.task_id] = tombstone
        _trim(self.tombstones)
        return tombstone


def _trim(table: OrderedDict[str, Any]) -> None:
    while len(table) > CAPACITY:
        table.popitem(last=False)
