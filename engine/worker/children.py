"""Which children there are and which there should be. Bookkeeping only: no system call, no clock.

The supervisor tells what happened (``spawning``, ``started``, ``ready``, ``recycling``, ``died``) and asks
``plan`` what to do. Time is always passed in, in seconds of the monotonic clock.

Rules
-----
* A child that drains does not count: its replacement starts at once, so a recycled child costs no capacity.
* Old generations are replaced one by one: first a replacement gets ready, then one old child drains.
* Crashes are answered at once the first time, then after 0.1 s, doubling up to 30 s, until a child proves
  itself (it finishes tasks or stays up). Boot failures without any success in between end the worker.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field

BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 30.0
KILLED_AT_BOOT = "boot"
#: a child that stayed up for so long has proved itself
PROVEN_AFTER_S = 10.0


class State(enum.Enum):
    """The life of a child, as the supervisor sees it."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    KILLED = "killed"


class Death(enum.Enum):
    """What a death means for the worker."""

    ORDERLY = "orderly"  #: it was asked to, or recycled itself
    DELIBERATE = "deliberate"  #: the supervisor killed it
    BOOT_FAILURE = "boot failure"
    CRASH = "crash"


@dataclass(slots=True)
class Child:
    """One child. ``pid`` is 0 until the template has told it."""

    slot: int
    generation: int
    spawned_mono_s: float
    pid: int = 0
    state: State = State.STARTING
    ready_mono_s: float = 0.0
    killed_for: str = ""  #: why the supervisor killed it
    error: str = ""  #: what the child itself reported before it died
    kill_mono_s: float = 0.0  #: when what is left of its process group is killed


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done now."""

    spawn: int = 0
    drain: tuple[int, ...] = ()  #: slots
    wait_until_mono_s: float | None = None  #: spawning is held back until then


@dataclass(slots=True)
class Children:
    """All children of one worker."""

    concurrency: int
    capacity: int  #: slots of the scoreboard
    generation: int = 1
    by_slot: dict[int, Child] = field(default_factory=dict)
    crashes_in_a_row: int = 0
    boot_failures_in_a_row: int = 0
    spawn_not_before_mono_s: float = 0.0
    stopping: bool = False

    # -- what to do ------------------------------------------------------------------------------------

    def plan(self, now: float) -> Plan:
        """Children to start and to drain. Asked again whenever something happened."""
        if self.stopping:
            return Plan()
        serving = [child for child in self.by_slot.values() if child.state in (State.STARTING, State.READY)]
        old = [child for child in serving if child.generation != self.generation]
        current = len(serving) - len(old)
        missing = self.concurrency - len(serving)
        if missing < 0 and not old:
            return Plan(drain=tuple(self._surplus(serving, -missing)))
        if missing <= 0 and old:
            fresh_ready = sum(
                child.state is State.READY for child in serving if child.generation == self.generation
            )
            if fresh_ready + len(old) > self.concurrency:
                oldest = min(old, key=lambda child: child.spawned_mono_s)
                return Plan(drain=(oldest.slot,))
            starting = any(
                child.state is State.STARTING for child in serving if child.generation == self.generation
            )
            missing = 0 if starting or current >= self.concurrency else 1
        missing = min(missing, self.capacity - len(self.by_slot))
        if missing <= 0:
            return Plan()
        if now < self.spawn_not_before_mono_s:
            return Plan(wait_until_mono_s=self.spawn_not_before_mono_s)
        return Plan(spawn=1 if self.crashes_in_a_row > 1 else missing)

    @staticmethod
    def _surplus(serving: list[Child], count: int) -> list[int]:
        youngest_first = sorted(serving, key=lambda child: -child.spawned_mono_s)
        return [child.slot for child in youngest_first[:count]]

    # -- what happened ---------------------------------------------------------------------------------

    def spawning(self, now: float) -> Child:
        """A child is being started; it gets the lowest free slot."""
        slot = next(index for index in range(self.capacity) if index not in self.by_slot)
        child = Child(slot, self.generation, now)
        self.by_slot[slot] = child
        if self.crashes_in_a_row > 1:
            self.spawn_not_before_mono_s = now + self.backoff_s()
        return child

    def ready(self, slot: int, now: float) -> None:
        """It consumes."""
        child = self.by_slot[slot]
        if child.state is State.STARTING:
            child.state = State.READY
            child.ready_mono_s = now
        self.boot_failures_in_a_row = 0

    def draining(self, slot: int) -> None:
        """It takes no further task: recycled by itself, or asked to."""
        child = self.by_slot[slot]
        if child.state is not State.KILLED:
            child.state = State.DRAINING

    def proven(self) -> None:
        """A child finished tasks or stayed up: the next crash is answered at once again."""
        self.crashes_in_a_row = 0
        self.spawn_not_before_mono_s = 0.0

    def died(
        self, slot: int, exit_code: int, now: float, tasks_done: int = 0, at_work: bool = False
    ) -> tuple[Child, Death]:
        """It is gone; ``exit_code`` is negative for a signal. Frees the slot. One that has done tasks made
        progress: its successor waits 0.1 s at most. ``at_work``: its slot does not say that it was leaving,
        so that even exit code 0 is no orderly end (a task may call ``os._exit(0)``)."""
        child = self.by_slot.pop(slot)
        if child.killed_for and child.killed_for != KILLED_AT_BOOT:
            return child, Death.DELIBERATE
        booted = child.ready_mono_s > 0
        if exit_code == 0 and not at_work and (booted or child.state is State.DRAINING):
            return child, Death.ORDERLY
        if booted and now - child.ready_mono_s >= PROVEN_AFTER_S:
            self.proven()
        self.crashes_in_a_row += 1
        if tasks_done:
            self.crashes_in_a_row = min(self.crashes_in_a_row, 2)
        if self.crashes_in_a_row > 1:
            self.spawn_not_before_mono_s = now + self.backoff_s()
        if booted:
            return child, Death.CRASH
        self.boot_failures_in_a_row += 1
        return child, Death.BOOT_FAILURE

    def backoff_s(self) -> float:
        """How long to wait before the next start, after that many crashes in a row."""
        steps = max(0, self.crashes_in_a_row - 2)
        return float(min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(steps, 16)))

    # -- questions -------------------------------------------------------------------------------------

    def by_pid(self, pid: int) -> Child | None:
        return next((child for child in self.by_slot.values() if child.pid == pid), None)

    def of_generation(self, generation: int) -> list[Child]:
        return [child for child in self.by_slot.values() if child.generation == generation]

    def __len__(self) -> int:
        return len(self.by_slot)

    def __iter__(self) -> Iterator[Child]:
        return iter(list(self.by_slot.values()))
