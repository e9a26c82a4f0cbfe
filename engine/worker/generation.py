"""The supervisor's side of a template: one generation of the app's code, loaded in a process of its own."""

from __future__ import annotations

import enum
import os
import signal
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from engine.worker import processes, signals
from engine.worker.control import MAX_FDS, Channel
from engine.worker.options import WorkerOptions
from engine.worker.scoreboard import Scoreboard
from engine.worker.template import WORK, run_template

#: a template that does not end by itself within this is killed
_END_GRACE_S = 3.0
_END_STEP_S = 0.02
_MOST_AT_ONCE = MAX_FDS // 2  # each child has two descriptors


class Closable(Protocol):
    """What a forked process has to close, since it is the supervisor's."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Order:
    """A child to be forked, and its ends of its line."""

    slot: int
    control: Channel
    recorder_fd: int = -1  #: -1: none
    cautious: bool = False  #: its predecessor crashed
    role: str = WORK

    def fds(self) -> list[int]:
        return [self.control.fileno()] if self.recorder_fd < 0 else [self.control.fileno(), self.recorder_fd]


class GenerationState(enum.Enum):
    """The life of a generation."""

    LOADING = "loading"
    LOADED = "loaded"
    FAILED = "failed"
    GONE = "gone"


class Generation:
    """A template process: its pid, its channel, what it told."""

    def __init__(self, number: int, pid: int, channel: Channel) -> None:
        self.number = number
        self.pid = pid
        self.channel = channel
        self.state = GenerationState.LOADING
        self.info: dict[str, Any] = {}
        self.error = ""

    @classmethod
    def fork(
        cls,
        number: int,
        app_path: str,
        options: WorkerOptions,
        scoreboard: Scoreboard,
        entry_module: str,
        ours: Iterable[Closable],
    ) -> Generation:
        """Fork a template that starts to load the app. ``ours`` is everything the supervisor holds open."""
        mine, theirs = Channel.pair()
        pid = os.fork()
        if pid == 0:
            signals.reset_after_fork()
            for item in (mine, *ours):
                item.close()
            run_template(app_path, options, scoreboard, theirs, entry_module)
        theirs.close()
        return cls(number, pid, mine)

    def spawn(self, orders: Sequence[Order]) -> list[Order]:
        """Ask for children; the answer comes as messages. The orders that could not be given: the template is
        gone."""
        for start in range(0, len(orders), _MOST_AT_ONCE):
            some = orders[start : start + _MOST_AT_ONCE]
            children = [
                {
                    "role": order.role,
                    "slot": order.slot,
                    "generation": self.number,
                    "cautious": order.cautious,
                    "fds": len(order.fds()),
                }
                for order in some
            ]
            fds = [fd for order in some for fd in order.fds()]
            if not self.channel.send({"op": "spawn", "children": children}, fds):
                return list(orders[start:])
        return []

    def take_in(self, message: dict[str, Any]) -> None:
        """Note what the template told of itself."""
        if message["op"] == "loaded":
            self.state = GenerationState.LOADED
            self.info = message["info"]
        elif message["op"] == "failed":
            self.state = GenerationState.FAILED
            self.error = message["text"]

    def end(self) -> None:
        """Let it run its own shutdown, then see that it is gone."""
        self.channel.send({"op": "stop"})
        deadline = time.monotonic() + _END_GRACE_S
        while time.monotonic() < deadline:
            if any(pid == self.pid for pid, _ in processes.reap()):
                self.channel.close()
                return
            time.sleep(_END_STEP_S)
        self.kill()

    def kill(self) -> None:
        """It hangs in an import: end it."""
        self.channel.close()
        processes.kill_group(self.pid, signal.SIGKILL)
