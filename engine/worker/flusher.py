"""The second pair of hands of a child: a thread that acts only when a task takes longer than was expected.

The main thread settles by itself, and before it runs anything that is not known to be short. What is left are
surprises: a task that was always short and now is not, while finished neighbours wait for their
acknowledgement and claimed ones wait for their turn. Then this thread settles the former after 10 ms, and
hands back the latter after 50 ms, so that idle siblings get them. Where the native keepalive needs Python now
and then (see `Transport.refresh`), it looks after that in tasks that take very long. It also notices that the
supervisor is gone while a task runs, and from then on enforces the hard time limit itself.

One lock, the **gate**, covers all use of the transport: the main thread holds it except around user code. So
this thread can only get it while a task runs, and must leave the transport guarded again. Parked, the thread
sleeps in one ``poll``: it costs nothing until it is needed.
"""

from __future__ import annotations

import _thread
import contextlib
import logging
import os
import select
import signal
import threading
import time
from typing import Protocol

from engine.errors import EngineError

#: a finished task's outcome waits no longer than this
FLUSH_AFTER_S = 0.010
#: what has been claimed and not started for so long goes back
HAND_BACK_AFTER_S = 0.050

_STEP_MS = 10
_ORPHAN_STEP_MS = 250
_ALL_SIGNALS = signal.valid_signals()

log = logging.getLogger("engine.worker")


class Host(Protocol):
    """What the flusher sees of its child."""

    task_started_mono_s: float  #: when the running task started; 0.0 between tasks
    task_deadline_mono_s: float  #: its hard limit; 0.0 for none
    gate: threading.Lock

    def outcomes_waiting_since(self) -> float:
        """When the oldest unsettled outcome ended; 0.0 for none."""

    def has_claimed(self) -> bool:
        """Whether messages wait behind the running one."""

    def settle_beside(self) -> None:
        """Settle, while user code runs. The gate is held."""

    def hand_back_beside(self) -> None:
        """Give back what waits, while user code runs. The gate is held."""

    def refresh_every_s(self) -> float | None:
        """How often the connection is to be looked after while user code runs; None: not at all."""

    def refresh_beside(self) -> None:
        """Look after it. The gate is held."""


class Flusher:
    """The thread. ``watch`` is called by the main thread when a task has its start, and something waits."""

    def __init__(self, host: Host, control_fd: int) -> None:
        self._host = host
        self._control_fd = control_fd
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._closed = False
        self.parked = True
        self.orphaned = False
        self._refreshed_mono_s = 0.0
        self._started = False

    def watch(self) -> None:
        """There is something to lose if the task that starts now is long. Cheap when awake already."""
        if self.parked:
            self.parked = False
            if not self._started:
                self._start()
            else:
                os.eventfd_write(self._bell, 1)

    def _start(self) -> None:
        """Start the thread, at the first need of it; all signals stay with the main thread. Not as a
        `threading.Thread`: nobody looks at it, and its start takes a quarter MiB less of every child."""
        self._started = True
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _ALL_SIGNALS)
        try:
            _thread.start_new_thread(self._run, ())
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def close(self) -> None:
        self._closed = True
        with contextlib.suppress(OSError):
            os.eventfd_write(self._bell, 1)

    # -- the thread ------------------------------------------------------------------------------------

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._bell, select.POLLIN)
        poll.register(self._control_fd, select.POLLRDHUP)  # readable is the main thread's business
        idle_steps = 0
        while not self._closed:
            for fd, _events in poll.poll(self._patience_ms()):
                if fd == self._bell:
                    with contextlib.suppress(BlockingIOError):
                        os.eventfd_read(self._bell)
                else:
                    poll.unregister(self._control_fd)
                    self.orphaned = True
            if self.orphaned:
                self._enforce_hard_limit()
            self._refresh_if_due(time.monotonic())
            if self.parked:
                continue
            if self._step(time.monotonic()):
                idle_steps = 0
            else:
                idle_steps += 1
                if idle_steps > 3:
                    idle_steps = 0
                    self.parked = True
                    if self._step(time.monotonic()):  # a task was started that still saw us awake
                        self.parked = False

    def _patience_ms(self) -> int | None:
        if not self.parked:
            return _STEP_MS
        if self.orphaned:
            return _ORPHAN_STEP_MS
        every_s = self._host.refresh_every_s()
        return None if every_s is None else max(1, int(every_s * 250))  # late by a quarter at most

    def _refresh_if_due(self, now: float) -> None:
        """A task runs so long that its connection has to be looked after."""
        host = self._host
        started, every_s = host.task_started_mono_s, host.refresh_every_s()
        if not started or every_s is None or now - max(started, self._refreshed_mono_s) < every_s:
            return
        if host.gate.acquire(blocking=False):
            try:
                if host.task_started_mono_s:
                    self._refreshed_mono_s = now
                    host.refresh_beside()
            except EngineError as error:
                log.warning("the connection to the broker is in trouble while a task runs: %s", error)
            finally:
                host.gate.release()

    def _step(self, now: float) -> bool:
        """Look once, act if something is late. False when there is nothing to watch any more."""
        host = self._host
        started = host.task_started_mono_s
        if not started:
            return False
        since = host.outcomes_waiting_since()
        claimed = host.has_claimed()
        late = bool(since) and now - since >= FLUSH_AFTER_S
        hoarding = claimed and now - started >= HAND_BACK_AFTER_S
        if (late or hoarding) and host.gate.acquire(blocking=False):
            try:
                if host.task_started_mono_s:
                    self._act(late, hoarding)
            finally:
                host.gate.release()
        return bool(since) or claimed

    def _act(self, late: bool, hoarding: bool) -> None:
        try:
            if late or hoarding:
                self._host.settle_beside()
            if hoarding:
                self._host.hand_back_beside()
        except Exception:
            log.exception("settling beside a running task failed: the connection is opened anew after it")

    def _enforce_hard_limit(self) -> None:
        deadline = self._host.task_deadline_mono_s
        if deadline and self._host.task_started_mono_s and time.monotonic() > deadline:
            log.error("hard time limit passed, and no supervisor to act: ending this process group")
            os.killpg(0, signal.SIGKILL)
