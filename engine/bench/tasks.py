"""The tasks that every side runs: the same functions, so that only the engine around them differs."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from engine.bench.tally import Tally

ADD = "bench.add"
BEGIN = "bench.begin"
NAP = "bench.nap"
HOLD = "bench.hold"
HELD = "held"  #: the folder in which processes say that they are held
GO = "go"  #: the named pipe that lets them go, once the bench has it open
SHORT = "short"  #: the folder in which short naps are counted
BEGIN_SOCKET = "begin.sock"
_PR_SET_TIMERSLACK, _LEAST_SLACK_NS = 29, 1


class Tasks(NamedTuple):
    """The task functions of one bench folder."""

    add: Callable[..., int]
    begin: Callable[..., int]
    nap: Callable[..., None]
    hold: Callable[[], None]


def make_tasks(folder: str) -> Tasks:
    """The functions that count and tell in that folder."""
    tally, shorts = Tally(Path(folder)), Tally(Path(folder) / SHORT)
    address = str(Path(folder) / BEGIN_SOCKET)

    def add(x: int, y: int, pad: str = "") -> int:
        """Adds two numbers, and counts itself as ended."""
        tally.add()
        return x + y

    def begin(pad: str = "") -> int:
        """Tells the publisher, at once, that it has begun. The clock is the machine's own."""
        began_ns = time.monotonic_ns()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(str(began_ns).encode(), address)
        return began_ns

    def nap(seconds: float, short: bool = False) -> None:
        """Sleeps, and counts itself as ended; a short one twice."""
        if tally.begin():
            sleep_exactly()
        began_ns = time.monotonic_ns()
        time.sleep(seconds)
        tally.slept(time.monotonic_ns() - began_ns)
        tally.add()
        if short:
            shorts.add()

    def hold() -> None:
        """Keeps its process from all else, so that all of a worker's can be let go at once."""
        held = Path(folder) / HELD
        held.mkdir(exist_ok=True)
        (held / str(os.getpid())).touch()
        os.close(os.open(Path(folder) / GO, os.O_RDONLY))  # waits for the other end

    return Tasks(add, begin, nap, hold)


def sleep_exactly() -> None:
    """Let this thread's timers run out when they say: Linux adds up to 50 µs, a twentieth of the shortest nap
    (prctl(2), PR_SET_TIMERSLACK). Does nothing elsewhere."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, _LEAST_SLACK_NS, 0, 0, 0)


class BeginListener:
    """The publisher's end: when the task it has just sent began."""

    def __init__(self, folder: str, timeout_s: float) -> None:
        self._path = Path(folder) / BEGIN_SOCKET
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self._path))
        self._socket.settimeout(timeout_s)

    def wait_ns(self) -> int:
        """Raises TimeoutError when no task begins in time."""
        return int(self._socket.recv(64))

    def close(self) -> None:
        self._socket.close()
        self._path.unlink()
