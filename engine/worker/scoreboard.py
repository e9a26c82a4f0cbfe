"""The scoreboard: shared memory in which every child says what it does, and the supervisor reads.

Rules
-----
* One slot a child, one writer a field: the child writes everything but ``word``, which is the supervisor's:
  a command, and a counter that tells of news (revoked tasks). After a child's death the slot belongs to the
  supervisor again, until the next child.
* No lock. The task record carries the same sequence number at its head and its tail; a reader takes it only
  when both agree on two reads in a row, so it never acts on a half-written task id or deadline.
* The mapping is anonymous and made before the first fork: there is no file, no name, nothing to clean up.

A slot is four cache lines (64 bytes each), so that one child's writes never slow another's:
line 0 the word, line 1 life and counters, lines 2 and 3 the task record.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass

from engine.work import TaskRecord
from engine.worker.finished import Finished
from engine.worker.revoked import Revoked

SLOT_BYTES = 256

# phases, as written by the child
EMPTY, BOOTING, IDLE, RUNNING, SETTLING, RECONNECTING, DRAINING, RUNNING_ACKED = range(8)
PHASE_NAMES = (
    "empty",
    "booting",
    "idle",
    "running",
    "settling",
    "reconnecting",
    "draining",
    "running, acknowledged before the run",
)

# commands, as written by the supervisor
GO_ON, DRAIN, QUIT = range(3)

_LIFE = struct.Struct("<IIQQd")  # pid, generation, done, failed, stamp_mono_s
_TASK = struct.Struct("<QQdd48s40sQ")  # sequence, phase, started, deadline, task id, task name, sequence
_LIFE_AT = 64
_TASK_AT = 128
_PHASE_AT = _TASK_AT + 8
_READ_TRIES = 8
_WORD_BYTES = 4
_COMMAND_MASK = 0xFF
_NEWS_STEP = 0x100
_WORD_MASK = 0xFFFF_FFFF


def is_running(phase: int) -> bool:
    """Whether user code runs in that phase."""
    return phase in (RUNNING, RUNNING_ACKED)


def is_at_work(phase: int) -> bool:
    """Whether the child receives and runs tasks: one that leaves by itself goes to another phase first."""
    return phase in (IDLE, SETTLING) or is_running(phase)


@dataclass(frozen=True, slots=True)
class SlotView:
    """A consistent copy of one slot. Times are of the monotonic clock, in seconds; 0.0 means none."""

    pid: int
    generation: int
    done: int
    failed: int
    stamp_mono_s: float
    phase: int
    started_mono_s: float
    deadline_mono_s: float
    task_id: str
    task_name: str


class Slot:
    """One child's part of the scoreboard, for its writer and for readers."""

    __slots__ = ("_base", "_map", "_phase_at", "_task_at", "index", "word_at", "words")

    def __init__(self, mapping: mmap.mmap, index: int) -> None:
        self.index = index
        self._map = mapping
        self.words = memoryview(mapping).cast("I")  #: for whoever looks at ``word`` between any two tasks
        self._base = index * SLOT_BYTES
        self.word_at = self._base // _WORD_BYTES
        self._task_at = self._base + _TASK_AT
        self._phase_at = self._base + _PHASE_AT

    # -- the child's side ------------------------------------------------------------------------------

    def record(self) -> TaskRecord:
        """The writer of the task record."""
        return TaskRecord(self._map, self._task_at, self._base)

    def phase(self, phase: int) -> None:
        """The child goes on to another phase; the task record stays as it is."""
        self._map[self._phase_at] = phase

    def progress(self, pid: int, generation: int, done: int, failed: int, stamp_mono_s: float) -> None:
        """Counters and the sign of life."""
        _LIFE.pack_into(self._map, self._base + _LIFE_AT, pid, generation, done, failed, stamp_mono_s)

    @property
    def word(self) -> int:
        """Command and counter of news in one: when it has changed, the supervisor has said something."""
        return self.words[self.word_at]

    @property
    def command(self) -> int:
        return self.words[self.word_at] & _COMMAND_MASK

    # -- the supervisor's side -------------------------------------------------------------------------

    @command.setter
    def command(self, command: int) -> None:
        self.words[self.word_at] = self.word & ~_COMMAND_MASK | command

    def announce_news(self) -> None:
        """There is something to look at between two tasks."""
        self.words[self.word_at] = (self.word + _NEWS_STEP) & _WORD_MASK

    def clear(self) -> None:
        """Empty the slot of a dead child (or for the next one)."""
        self._map[self._base : self._base + SLOT_BYTES] = bytes(SLOT_BYTES)

    def running(self, task_id: bytes) -> bool:
        """Whether this slot says that it runs that task: a cheap look, made by siblings."""
        if self._map[self._phase_at] != RUNNING:
            return False
        start = self._task_at + 32
        return self._map[start : start + 48].rstrip(b"\0") == task_id[:48]

    def read(self) -> SlotView | None:
        """A consistent copy, or None when the child keeps writing (try again at the next tick)."""
        end = self._base + SLOT_BYTES
        for _ in range(_READ_TRIES):
            block = self._map[self._base : end]
            if block != self._map[self._base : end]:
                continue
            head, phase, started, deadline, task_id, name, tail = _TASK.unpack_from(block, _TASK_AT)
            if head == tail:
                pid, generation, done, failed, stamp = _LIFE.unpack_from(block, _LIFE_AT)
                return SlotView(
                    pid=pid,
                    generation=generation,
                    done=done,
                    failed=failed,
                    stamp_mono_s=stamp,
                    phase=phase & 0xFF,
                    started_mono_s=started,
                    deadline_mono_s=deadline,
                    task_id=_text(task_id),
                    task_name=_text(name),
                )
        return None


class Scoreboard:
    """All slots, in one anonymous shared mapping: those of working children, then the control child's."""

    def __init__(self, slots: int) -> None:
        self.child_slots = slots
        self.control_slot = slots
        slots += 1
        self._map = mmap.mmap(-1, slots * SLOT_BYTES)
        self.finished = Finished(self.child_slots)
        self.revoked = Revoked()
        self._cache = [Slot(self._map, index) for index in range(slots)]

    def slot(self, index: int) -> Slot:
        return self._cache[index]

    def running_elsewhere(self, task_id: bytes, own_index: int) -> bool:
        """Whether another slot says that it runs this task: a sibling at work, or one that just died."""
        at = self._map.find(task_id[:48])
        while at >= 0:
            index = at // SLOT_BYTES
            if index != own_index and self._cache[index].running(task_id):
                return True
            at = self._map.find(task_id[:48], (index + 1) * SLOT_BYTES)
        return False


def slot_id(task_id: str) -> str:
    """An id as a slot shows it: its first 48 bytes."""
    return _text(task_id.encode("utf-8", "replace")[:48])


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode("utf-8", "replace")
