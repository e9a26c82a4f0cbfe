"""The flight recorder: where a child was, told to the supervisor before it is killed.

Each child has an anonymous file (memfd) shared with the supervisor. On `DUMP_SIGNAL` ``faulthandler`` writes
the stacks of all threads there, from C, so it works even while a C call holds the GIL or a loop never ends.
Both ends share one file offset: the supervisor rewinds before it asks.
"""

from __future__ import annotations

import faulthandler
import os
import select
import signal
import time
from pathlib import Path

#: a real-time signal that no library uses by habit
DUMP_SIGNAL = signal.SIGRTMIN + 5

_WAIT_S = 0.25
_STEP_MS = 5
_MAX_BYTES = 32 * 1024
_ENGINE = str(Path(__file__).resolve().parents[1]) + os.sep
_WORKER = f'File "{_ENGINE}worker{os.sep}'
_LOOP = f"{_WORKER}child.py"
_FLUSHER = f"{_WORKER}flusher.py"


def create() -> int:
    """A descriptor to dump into; -1 where the system has none."""
    try:
        return os.memfd_create("engine-stacks", os.MFD_CLOEXEC)
    except (AttributeError, OSError):
        return -1


def arm(fd: int) -> None:
    """In the child: from now on the signal writes the stacks into ``fd``."""
    if fd >= 0:
        faulthandler.register(DUMP_SIGNAL, file=fd, all_threads=True, chain=False)


def ask(pid: int, fd: int) -> str | None:
    """In the supervisor: the stacks of a child, or None when it does not answer within a quarter second."""
    if fd < 0:
        return None
    try:
        os.ftruncate(fd, 0)
        os.lseek(fd, 0, os.SEEK_SET)
        os.kill(pid, DUMP_SIGNAL)
    except OSError:
        return None
    size = 0
    deadline = time.monotonic() + _WAIT_S
    while time.monotonic() < deadline:
        select.select([], [], [], _STEP_MS / 1000)
        now = os.fstat(fd).st_size
        if now and now == size:  # grown, and no longer growing
            break
        size = now
    text = os.pread(fd, _MAX_BYTES, 0).decode("utf-8", "replace")
    return text or None


def of_the_task(stacks: str) -> str:
    """The part of them that is the task's: without what called it, and without the worker's own thread. All
    of them where no task is seen."""
    kept = []
    seen = False
    for thread in stacks.strip().split("\n\n"):
        header, *frames = thread.split("\n")
        below = _first_below_the_task(frames)
        if below:
            seen = True
            frames = frames[:below]
            while frames and _ENGINE in frames[-1]:  # between the runner and a coroutine
                frames.pop()
        elif any(_FLUSHER in frame for frame in frames):
            continue
        kept.append("\n".join([header, *frames]))
    return "\n\n".join(kept) if seen else stacks


def _first_below_the_task(frames: list[str]) -> int:
    """Where the frames of a child's loop begin, the newest being the first; 0 when it runs no task. What
    calls a task is native: no frame tells of it."""
    for at, frame in enumerate(frames):
        if _LOOP in frame and frame.endswith(" in run"):
            return at if at and _WORKER not in frames[at - 1] else 0
    return 0
