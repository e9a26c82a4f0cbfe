"""What a forked child does to itself before it touches a broker: its own session, signals, descriptors,
chance.

A child is the leader of a session and a process group of its own: the terminal's Ctrl-C does not reach it,
and a kill of the group takes everything its task started. Its standard input is /dev/null. SIGTERM and
SIGINT ask it to drain, by a flag that is read between two tasks; user code is never interrupted by them.
SIGUSR1 dumps its stacks to standard error.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import random
import signal
import sys
from collections.abc import Callable
from types import FrameType

from engine import forks
from engine.worker import processes, recorder, signals


def become_child(name: str, recorder_fd: int, ask_to_drain: Callable[[], None]) -> None:
    """Once, right after the fork, in the main thread."""
    with contextlib.suppress(OSError):  # it is the leader already
        os.setsid()
    processes.set_name(name)
    processes.stdin_from_null()
    signals.reset_after_fork()

    def drain(_signum: int, _frame: FrameType | None) -> None:
        ask_to_drain()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, drain)
    with contextlib.suppress(ValueError, OSError, AttributeError):  # standard error may be no file
        faulthandler.register(signal.SIGUSR1, file=sys.stderr, all_threads=True, chain=False)
    recorder.arm(recorder_fd)
    forks.watch()
    random.seed()
