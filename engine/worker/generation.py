"""The supervisor's side of a template: one generation of the app's code, loaded in a process of its own."""

from __future__ import annotations

import enum
import os
import signal
import time
from collections.abc import Iterable
from typing import Any, Protocol

from engine.worker import processes, signals
from engine.worker.control import Channel
from engine.worker.options import WorkerOptions
from engine.worker.scoreboard import Scoreboard
from engine.worker.template import WORK, run_template

#: a template that does not end by itself within this is killed
_END_GRACE_S = 3.0
_END_STEP_S = 0.02


class Closable(Protocol):
    """What a forked process has to close, since it is the supervisor's."""

    def close(self) -> None: ...


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

    def spawn(self, slot: int, cautious: bool, control: Channel, recorder_fd: int, role: str = WORK) -> bool:
        """Ask for a child; the answer comes as a message. False when the template is gone."""
        message = {
            "op": "spawn",
            "role": role,
            "slot": slot,
            "generation": self.number,
            "cautious": cautious,
        }
        fds = [control.fileno()] if recorder_fd < 0 else [control.fileno(), recorder_fd]
        return self.channel.send(message, fds)

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
