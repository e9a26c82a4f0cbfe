"""The supervisor's side of the control child: one is kept running, whatever becomes of it.

It is no part of the books of working children: its death costs nothing but answers to remote control, is
logged once, and is made good after a pause that grows. It lives until the last working child is gone, since
tasks may be revoked while they drain.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable
from typing import Any

from engine.worker import processes, recorder
from engine.worker.children import Child, State
from engine.worker.control import Channel
from engine.worker.generation import Generation, Order
from engine.worker.options import WorkerOptions
from engine.worker.scoreboard import Scoreboard
from engine.worker.template import CONTROL
from engine.worker.watchdog import judge

log = logging.getLogger("engine.worker")

_PAUSE_FIRST_S = 0.5
_PAUSE_MAX_S = 60.0
_PROVEN_AFTER_S = 60.0
_BOOT_DEADLINE_S = 60.0
#: how long it may take to say good-bye to the broker
_END_GRACE_S = 1.0


class Remote:
    """Keeps the control child.

    Args:
        listen: makes the loop call a function when a channel is readable.
        forget: undoes that, and closes the channel.
        on_message: hears what the control child says.
    """

    def __init__(
        self,
        board: Scoreboard,
        listen: Callable[[Channel, Callable[[], None]], None],
        forget: Callable[[Channel], None],
        on_message: Callable[[dict[str, Any]], None],
    ) -> None:
        self.slot = board.control_slot
        self.channel: Channel | None = None
        self.child: Child | None = None
        self._board = board
        self._listen = listen
        self._forget = forget
        self._on_message = on_message
        self._recorder_fd = -1
        self.speaks = False  #: the worker is ready: what keeps it from starting is told of its children
        self._deaths = 0
        self._told = False  # of these deaths in a row
        self._not_before_mono_s = 0.0
        self._end_by_mono_s = 0.0

    @property
    def pid(self) -> int:
        return self.child.pid if self.child is not None else 0

    @property
    def awaits_pid(self) -> bool:
        """It was asked for, and the template has not told its pid yet."""
        return self.child is not None and not self.child.pid

    def keep(self, generation: Generation | None, now: float, options: WorkerOptions) -> None:
        """Start it when it is due; kill one that is stuck."""
        child, channel = self.child, self.channel
        if child is None or channel is None:
            if generation is not None and not self._end_by_mono_s and now >= self._not_before_mono_s:
                self._spawn(generation, now)
            return
        channel.flush()
        view = self._board.slot(self.slot).read()
        boot_s = options.boot_deadline_s or _BOOT_DEADLINE_S
        verdict = judge(child, view, now, boot_s, options.deaf_after_s)
        if verdict is not None:
            log.error(
                "killing the control child %d: %s, %.1f s over", child.pid, verdict.reason, verdict.over_s
            )
            child.state, child.killed_for = State.KILLED, verdict.reason
            processes.kill_group(child.pid, signal.SIGKILL)

    def _spawn(self, generation: Generation, now: float) -> None:
        if not generation.info.get("remote_control"):
            return
        self._board.slot(self.slot).clear()
        mine, theirs = Channel.pair()
        self.child = Child(self.slot, generation.number, now)
        self.channel, self._recorder_fd = mine, recorder.create()
        self._listen(mine, self._read)
        if generation.spawn([Order(self.slot, theirs, self._recorder_fd, role=CONTROL)]):
            self.died(1, now)
        theirs.close()

    def started(self, pid: int, exit_code: int | None) -> None:
        """The template tells its pid; with an exit code when it has ended already."""
        if self.child is not None:
            self.child.pid = pid
            if exit_code is not None:
                self.died(exit_code, time.monotonic())

    def template_gone(self, generation: int, now: float) -> None:
        """One that was on order there never comes."""
        if self.child is not None and self.awaits_pid and self.child.generation == generation:
            self.died(1, now)

    def _read(self) -> None:
        child, channel = self.child, self.channel
        if child is None or channel is None:
            return
        for message in channel.receive():
            if message["op"] == "ready":
                child.state = State.READY
            elif message["op"] == "failed":
                child.error = message["text"]
            else:
                self._on_message(message)
        if channel.eof:
            self._forget(channel)

    def died(self, code: int, now: float) -> None:
        """It is gone: start another one, at once when it was asked to go."""
        child, channel = self.child, self.channel
        if child is None or channel is None:
            return
        self._read()  # its last words
        self._forget(channel)
        processes.close_fds([self._recorder_fd] if self._recorder_fd >= 0 else [])
        self.child = self.channel = None
        if code == 0 or child.state is State.DRAINING:
            self._deaths, self._told = 0, False
            return
        if now - child.spawned_mono_s >= _PROVEN_AFTER_S:
            self._deaths, self._told = 0, False
        pause_s = min(_PAUSE_MAX_S, _PAUSE_FIRST_S * 2 ** min(self._deaths, 16))
        self._deaths += 1
        self._not_before_mono_s = now + pause_s
        why = child.error or processes.exit_text(code)
        level = logging.WARNING if self.speaks and not self._told else logging.DEBUG
        self._told = self._told or self.speaks
        log.log(
            level, "the control child %d ended (%s): another one follows; the work goes on", child.pid, why
        )

    def replace(self) -> None:
        """New code was loaded: end it, so that one of the new generation follows."""
        if self.channel is not None and self.child is not None:
            self.child.state = State.DRAINING
            self.channel.send({"op": "quit"})
        self._not_before_mono_s = 0.0

    def ended(self, now: float) -> bool:
        """Let it go, at the very end of the worker; True once it is gone. Called until then."""
        if self.child is None:
            return True
        if not self._end_by_mono_s:
            self._end_by_mono_s = now + _END_GRACE_S
            self.replace()
        if now >= self._end_by_mono_s:
            self.kill()
            return True
        return False

    def kill(self) -> None:
        """End it now."""
        if self.pid:
            processes.kill_group(self.pid, signal.SIGKILL)
