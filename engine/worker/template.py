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
* Children are forked by a process in the middle, which ends at once: so a child belongs to the supervisor (a
  subreaper), which alone waits for it. The template passes the pids on.
* Every process closes the control ends that are not its own. Otherwise the death of a process would not be
  an end of file for its peer.

Memory
------
What the template writes to after a fork is copied: the child keeps the old page for itself. So children that
start together are forked together, and what is done for each of them in between is little. Each function that
a child runs costs it some 6 KiB, for the pages on which references to it are counted: so what all children
would do alike is done here, once (``EntryPoints.prepare``).
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import threading
import traceback
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from engine.worker import processes, signals
from engine.worker.control import MAX_MESSAGE_BYTES, Channel
from engine.worker.failure import failure_text
from engine.worker.forking import fork_detached, leave
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

    def prepare(self, app: Any, options: WorkerOptions) -> Any:
        """Do what all children would do alike, in the template, before the first of them; the life that each
        of them gets a copy of."""

    def run_child(self, app: Any, life: Any, birth: Birth) -> int:
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
        leave(code)


class _Template:
    def __init__(
        self, app_path: str, options: WorkerOptions, scoreboard: Scoreboard, channel: Channel
    ) -> None:
        self._app_path = app_path
        self._options = options
        self._scoreboard = scoreboard
        self._channel = channel
        self._life: Any = None

    def run(self, entry_module: str) -> int:
        sockets_before = processes.open_sockets()
        try:
            importlib.invalidate_caches()
            entry = _import(entry_module)
            app = entry.load(self._app_path, self._options)
            entry.announce(app, "worker_init", self._options)
            info = entry.describe(app, self._options)
            self._life = entry.prepare(app, self._options)
        except BaseException as error:  # noqa: BLE001 - user code may raise anything, SystemExit included
            self._channel.send({"op": "failed", "text": failure_text(error)})
            return 1
        info["warnings"] = [*info.get("warnings", ()), *_fork_warnings(sockets_before)]
        if sys.version_info < (3, 12):  # a child that fills it anew would touch the names that stood there
            sys._clear_type_cache()
        gc.freeze()  # not collected before: what is freed there would be filled, and copied, by each child
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
                self._spawn(entry, app, message["children"], fds)
            elif message["op"] == "ready":
                entry.announce(app, "worker_ready", self._options)
            elif message["op"] == "stop":
                return

    def _spawn(self, entry: EntryPoints, app: Any, orders: list[dict[str, Any]], fds: list[int]) -> None:
        """``fds``: for each child its control channel, and its flight recorder where there is one."""
        mine = iter(fds)
        given = [(order, [next(mine) for _ in range(order["fds"])]) for order in orders]

        def be(number: int) -> int:
            order, kept = given[number]
            processes.close_fds(fd for fd in fds if fd not in kept)
            return self._be_child(entry, app, order, kept)

        pids: list[int] = []
        why = "the system is out of processes or memory"
        try:
            pids = fork_detached(len(orders), be)
        except OSError as error:
            why = str(error)
        finally:
            processes.close_fds(fds)
        slots = [order["slot"] for order in orders]
        self._channel.send({"op": "spawned", "pids": list(zip(slots, pids, strict=False))})
        if missing := slots[len(pids) :]:
            self._channel.send({"op": "spawn_failed", "slots": missing, "text": why})

    def _be_child(self, entry: EntryPoints, app: Any, order: dict[str, Any], fds: list[int]) -> int:
        self._channel.close()
        birth = Birth(
            slot=order["slot"],
            generation=order["generation"],
            cautious=order["cautious"],
            control=Channel.from_fd(fds[0]),
            recorder_fd=fds[1] if len(fds) > 1 else -1,
            scoreboard=self._scoreboard,
            options=self._options,
        )
        if order["role"] == CONTROL:
            return entry.run_control_child(app, birth)
        return entry.run_child(app, self._life, birth)


def _import(entry_module: str) -> EntryPoints:
    """Without looking for garbage meanwhile: our modules make none, and it would cost 5 % of the time."""
    threshold = gc.get_threshold()
    gc.set_threshold(0)
    try:
        entry: EntryPoints = importlib.import_module(entry_module)
    finally:
        gc.set_threshold(*threshold)
    return entry


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
