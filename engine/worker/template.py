"""The template: a process that has imported the app, and forks children from that clean state.

Why there is one
----------------
The supervisor must never import the user's app: then it can load new code at SIGHUP, keeps no memory of it,
and cannot be broken by it. Yet importing the app in every child would cost its time and memory N times. So
each generation has a template: it imports once, freezes the garbage collector's view of what it has (children
share those pages), opens no connection and starts no thread, and then only forks.

Fork safety
-----------
* Fork copies one thread. Locks that another thread held stay locked for ever in the child, so a template with
  threads is reported with a warning that names them.
* Sockets opened at import would be shared by all children; they are counted and warned of.
* Children are forked twice, and the middle process ends at once: so the child belongs to the supervisor (a
  subreaper), which alone waits for it. The template passes the pid on.
* Every process closes the control ends that are not its own. Otherwise the death of a process would not be
  an end of file for its peer.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from engine.worker import processes, signals
from engine.worker.control import MAX_MESSAGE_BYTES, Channel
from engine.worker.failure import failure_text
from engine.worker.options import WorkerOptions
from engine.worker.scoreboard import Scoreboard


@dataclass(frozen=True, slots=True)
class Birth:
    """All that a child is given, beside its app."""

    slot: int
    generation: int
    cautious: bool  #: its predecessor crashed: prefetch 1 for a while
    control: Channel
    recorder_fd: int
    scoreboard: Scoreboard
    options: WorkerOptions


#: what a child is for
WORK, CONTROL = "work", "control"


class EntryPoints(Protocol):
    """What the worker needs of the rest of the program, passed in by its name (``engine.worker.entry``), so
    that neither supervisor nor template import it."""

    def load(self, app_path: str, options: WorkerOptions) -> Any:
        """Import the app and all its tasks, and settle who logs."""

    def describe(self, app: Any, options: WorkerOptions) -> dict[str, Any]:
        """What the supervisor and the banner need to know of it."""

    def announce(self, app: Any, event: str, options: WorkerOptions) -> None:
        """Send the app's own signal of that name (worker_init, worker_ready, worker_shutdown)."""

    def run_child(self, app: Any, birth: Birth) -> int:
        """A child's whole life; its exit code."""

    def run_control_child(self, app: Any, birth: Birth) -> int:
        """The same for the one that answers remote control."""


def run_template(
    app_path: str,
    options: WorkerOptions,
    scoreboard: Scoreboard,
    channel: Channel,
    entry_module: str,
) -> NoReturn:
    """The template's whole life, in a process that was just forked. Never returns."""
    code = 1
    try:
        os.setsid()
        processes.set_name("engine-template")
        code = _Template(app_path, options, scoreboard, channel).run(entry_module)
    except BaseException:  # noqa: BLE001 - the last thing this process says
        traceback.print_exc()
    finally:
        _leave(code)


class _Template:
    def __init__(
        self, app_path: str, options: WorkerOptions, scoreboard: Scoreboard, channel: Channel
    ) -> None:
        self._app_path = app_path
        self._options = options
        self._scoreboard = scoreboard
        self._channel = channel

    def run(self, entry_module: str) -> int:
        sockets_before = processes.open_sockets()
        try:
            importlib.invalidate_caches()
            entry: EntryPoints = importlib.import_module(entry_module)
            app = entry.load(self._app_path, self._options)
            entry.announce(app, "worker_init", self._options)
            info = entry.describe(app, self._options)
        except BaseException as error:  # noqa: BLE001 - user code may raise anything, SystemExit included
            self._channel.send({"op": "failed", "text": failure_text(error)})
            return 1
        info["warnings"] = [*info.get("warnings", ()), *_fork_warnings(sockets_before)]
        gc.collect()
        gc.freeze()
        if not self._channel.send({"op": "loaded", "info": _bounded(info)}):
            return 0
        self._serve(entry, app)
        entry.announce(app, "worker_shutdown", self._options)
        return 0

    def _serve(self, entry: EntryPoints, app: Any) -> None:
        """Fork children as asked, until told to stop or the supervisor is gone."""
        while (request := self._channel.wait()) is not None:
            message, fds = request
            if message["op"] == "spawn":
                self._spawn(entry, app, message, fds)
            elif message["op"] == "ready":
                entry.announce(app, "worker_ready", self._options)
            elif message["op"] == "stop":
                return

    def _spawn(self, entry: EntryPoints, app: Any, message: dict[str, Any], fds: list[int]) -> None:
        try:
            pid = _fork_twice(lambda: self._be_child(entry, app, message, fds))
        except OSError as error:
            self._channel.send({"op": "spawn_failed", "slot": message["slot"], "text": str(error)})
        else:
            self._channel.send({"op": "spawned", "slot": message["slot"], "pid": pid})
        finally:
            processes.close_fds(fds)

    def _be_child(self, entry: EntryPoints, app: Any, message: dict[str, Any], fds: list[int]) -> int:
        self._channel.close()
        birth = Birth(
            slot=message["slot"],
            generation=message["generation"],
            cautious=message["cautious"],
            control=Channel.from_fd(fds[0]),
            recorder_fd=fds[1] if len(fds) > 1 else -1,
            scoreboard=self._scoreboard,
            options=self._options,
        )
        run = entry.run_control_child if message["role"] == CONTROL else entry.run_child
        return run(app, birth)


def _fork_twice(body: Callable[[], int]) -> int:
    """Fork a grandchild that runs ``body`` and exits with its result; its pid. It belongs to the nearest
    subreaper, not to us."""
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
    middle = os.fork()
    if middle == 0:
        os.close(read_fd)
        try:
            grandchild = os.fork()
        except OSError:
            os._exit(1)
        if grandchild:
            os.write(write_fd, str(grandchild).encode())
            os._exit(0)
        os.close(write_fd)
        code = 1
        try:
            code = body()
        except BaseException:  # noqa: BLE001 - the last thing this process says
            traceback.print_exc()
        finally:
            _leave(code)
    os.close(write_fd)
    try:
        pid = os.read(read_fd, 32)
    finally:
        os.close(read_fd)
        os.waitpid(middle, 0)
    if not pid:
        raise OSError("could not fork a child: the system is out of processes or memory")
    return int(pid)


def _leave(code: int) -> NoReturn:
    """End without running what belongs to the parent: its atexit functions, its test runner, its finally."""
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    with contextlib.suppress(Exception):
        sys.stderr.flush()
    os._exit(code)


def _fork_warnings(sockets_before: int) -> list[str]:
    warnings = []
    names = [thread.name for thread in threading.enumerate() if thread is not threading.current_thread()]
    if names or processes.native_threads() > 1:
        told = ", ".join(names) or "native threads"
        warnings.append(
            f"importing the app started threads ({told}): they do not exist in the children, and a lock one "
            "of them holds stays locked there. Start threads in a worker_process_init receiver instead"
        )
    if processes.open_sockets() > sockets_before:
        warnings.append(
            "importing the app opened network connections: all children would share them. Open them in a "
            "worker_process_init receiver, or on first use"
        )
    return warnings


def _bounded(info: dict[str, Any]) -> dict[str, Any]:
    """Task names by the thousand must not break the control message; their number is told apart."""
    while len(json.dumps(info, default=str)) > MAX_MESSAGE_BYTES - 1024 and info.get("tasks"):
        info["tasks"] = info["tasks"][: len(info["tasks"]) // 2]
    return info


def prepare_fork() -> None:
    """In a process the supervisor just forked: nothing of its signal set-up may stay."""
    signals.reset_after_fork()
