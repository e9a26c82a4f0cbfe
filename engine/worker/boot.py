"""What a forked child does to itself before it touches a broker: its own session, signals, descriptors.

What is the same for all children is done once, by their template (`prepare`): they inherit it, and each is
spared copies of the memory that doing it touches.

A child is the leader of a session and a process group of its own: the terminal's Ctrl-C does not reach it,
and a kill of the group takes everything its task started. Its standard input is /dev/null. SIGTERM and
SIGINT ask it to drain, by a flag that is read between two tasks; user code is never interrupted by them.
SIGUSR1 dumps its stacks to standard error.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

from engine import forks
from engine.work import keep_heap
from engine.worker import processes, recorder, signals

#: bodies up to here come from the heap, and so much of it is kept for the next ones until the child rests: a
#: page that is new to the process costs more than all that is done with the bytes in it. Larger ones are
#: mapped, and given back, each by itself
HEAP_BYTES = 32 << 20  # the most the C library allows
KEPT_BYTES = 48 << 20
#: what SIGTERM, SIGINT and SIGQUIT do: in the template nothing
_ask_to_drain: Callable[[], None] | None = None
#: the C library's own settings (mallopt(3)): who makes them has thought about it
_HEAP_VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")
_keeps_heap = not any(name in os.environ for name in _HEAP_VARIABLES)


def prepare() -> None:
    """In the template, once the app is imported, and whenever more of its code has run: whatever that did to
    signals is undone."""
    processes.stdin_from_null()
    signals.reset_after_fork()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, _drain)
    with contextlib.suppress(ValueError, OSError, AttributeError):  # standard error may be no file
        faulthandler.register(signal.SIGUSR1, file=sys.stderr, all_threads=True, chain=False)


def become_child(name: str, recorder_fd: int, ask_to_drain: Callable[[], None]) -> None:
    """Once, right after the fork, in the main thread. `random` seeds itself anew in every fork."""
    global _ask_to_drain
    with contextlib.suppress(OSError):  # it is the leader already
        os.setsid()
    _ask_to_drain = ask_to_drain
    processes.set_name(name)
    recorder.arm(recorder_fd)
    forks.watch()
    if _keeps_heap:
        keep_heap(HEAP_BYTES, KEPT_BYTES)


def _drain(_signum: int, _frame: FrameType | None) -> None:
    if _ask_to_drain is not None:
        _ask_to_drain()
