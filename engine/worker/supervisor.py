"""The supervisor: forks, reaps, respawns, kills, and stops in order. It knows nothing of brokers or results.

One thread, one loop: signals (as bytes in a pipe), control messages, then what the books say is due. It never
imports the app (templates do, see `engine.worker.template`) and opens nothing but its own socket pairs.

Stopping: SIGTERM or a first SIGINT is *warm*: children take nothing new, finish their task, settle it, hand
back the rest. A second SIGINT, SIGQUIT or the drain deadline is *cold*: tasks are killed with all that they
started; unacknowledged messages go back to their queues. A second SIGTERM changes nothing, as in Celery: what
sends it to a worker may well send it twice. With ``worker_soft_shutdown_timeout`` cold signals leave tasks
so long before, or until the next one. SIGHUP loads new code; SIGUSR1 dumps all stacks.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from engine.worker import processes, recorder, scoreboard
from engine.worker.banner import log_banner
from engine.worker.children import Child, Children, Death, State
from engine.worker.control import Channel
from engine.worker.generation import Closable, Generation, GenerationState
from engine.worker.logs import set_color
from engine.worker.mortician import Mortician
from engine.worker.options import MAX_CONCURRENCY, WorkerOptions
from engine.worker.quarantine import Quarantine
from engine.worker.remote import Remote
from engine.worker.revoking import Revoking
from engine.worker.scoreboard import Scoreboard
from engine.worker.signals import SignalInbox
from engine.worker.watchdog import HARD_LIMIT, judge

log = logging.getLogger("engine.worker")

_TICK_S = 0.25
#: between the cold stop's word and the kill: enough for a child between two tasks to settle
_QUIT_GRACE_S = 0.2
_TEMPLATE_RETRY_S = 5.0
_BOOT_DEADLINE_S = 60.0

EXIT_OK = 0
EXIT_FAILED = 1  #: the app could not be loaded, or children die at boot
EXIT_KILLED_TASKS = 3  #: a cold stop interrupted tasks (they will run again)


@dataclass(slots=True)
class _Link:
    """The supervisor's ends of one child: its control channel and its flight recorder."""

    channel: Channel
    recorder_fd: int


class Supervisor:
    """One worker. ``run`` returns its exit code."""

    def __init__(self, app_path: str, options: WorkerOptions, entry_module: str) -> None:
        self._app_path = app_path
        self._options = options
        self._entry_module = entry_module
        self._scoreboard = Scoreboard(2 * MAX_CONCURRENCY + 2)
        self._children = Children(0, self._scoreboard.child_slots)
        self._links: dict[int, _Link] = {}
        self._unclaimed: dict[int, int] = {}  # pids that ended before the template told whose they are
        self._unread: list[dict[str, Any]] = []  # for one child, when there was none to read it
        self._quarantine = Quarantine(options.max_crashes_per_task)
        self._mortician = Mortician(self._quarantine, self._broadcast)
        self._revoking = Revoking(self._scoreboard, self._children, self._mortician)
        self._remote = Remote(self._scoreboard, self._listen, self._forget, self._on_control)
        self._generation: Generation | None = None
        self._loading: Generation | None = None
        self._retired: list[Generation] = []  #: told to end; they may still tell of a child they forked
        self._numbers = 0
        self._announced = False
        self._exit_code = EXIT_OK
        self._stop_deadline_mono_s: float | None = None
        self._cold = False
        self._gave_up = False
        self._retry_load_mono_s = 0.0

    # -- life ------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Work until told to stop. The exit code: see the ``EXIT_`` constants."""
        processes.become_subreaper()
        self._inbox = SignalInbox()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._inbox, selectors.EVENT_READ, self._on_signals)
        try:
            self._load()
            while not self._finished():
                for key, _ in self._selector.select(_TICK_S):
                    key.data()
                self._tick(time.monotonic())
        finally:
            self._clean_up()
        return self._exit_code

    def _finished(self) -> bool:
        if not self._children.stopping or len(self._children) or self._loading is not None:
            return False
        return self._remote.ended(time.monotonic())

    def _clean_up(self) -> None:
        for child in self._children:
            processes.kill_group(child.pid, signal.SIGKILL)
        self._remote.kill()
        for generation in (self._generation, self._loading):
            if generation is not None:
                generation.end()
        for message in self._unread:
            log.error("task %s ended (%s): no child was left to store that", message["id"], message["detail"])
        self._revoking.close()
        self._selector.close()
        self._inbox.restore()

    # -- generations -----------------------------------------------------------------------------------

    def _load(self) -> None:
        """Fork a template; it answers when the app is loaded."""
        self._numbers += 1
        ours: list[Closable] = [self._inbox, self._selector, self._revoking]
        ours += [link.channel for link in self._links.values()]
        ours += [self._remote.channel] if self._remote.channel is not None else []
        ours += [g.channel for g in (self._generation, self._loading, *self._retired) if g is not None]
        generation = Generation.fork(
            self._numbers, self._app_path, self._options, self._scoreboard, self._entry_module, ours
        )
        self._loading = generation
        self._listen(generation.channel, lambda: self._on_template(generation))

    def _on_template(self, generation: Generation) -> None:
        for message in generation.channel.receive():
            op = message["op"]
            if op == "spawned":
                self._on_spawned(message["slot"], message["pid"])
            elif op == "spawn_failed":
                log.error("could not start a child: %s", message["text"])
                if message["slot"] == self._remote.slot:
                    self._remote.died(1, time.monotonic())
                else:
                    self._on_death(self._children.by_slot[message["slot"]], 1)
            else:
                generation.take_in(message)
                self._on_loaded(generation)
        if generation.channel.eof:
            self._on_template_gone(generation)

    def _on_loaded(self, generation: Generation) -> None:
        if generation.state is GenerationState.FAILED:
            return  # it ends by itself; its end of file is dealt with then
        first = self._generation is None
        if self._generation is not None:
            self._retire(self._generation)
        self._loading, self._generation = None, generation
        self._children.generation = generation.number
        self._options = replace(self._options, **generation.info.get("effective", {}))
        self._quarantine.max_crashes = self._options.max_crashes_per_task
        set_color(self._options.log_color)
        self._children.concurrency = self._options.concurrency or processes.usable_cpus()
        if first:
            log_banner(generation.info, self._options, os.getpid())
            if pattern := generation.info.get("state_db"):
                self._revoking.remember_in(pattern, self._options.nodename())
        else:
            self._remote.replace()
            log.info("new code loaded (generation %d): replacing children one by one", generation.number)
        self._event("loaded", generation.info)

    def _on_template_gone(self, generation: Generation) -> None:
        self._forget(generation.channel)
        if generation in self._retired:
            self._retired.remove(generation)
        for child in self._children:
            if child.generation == generation.number and not child.pid:  # it was on order, and never comes
                child.killed_for = "its template is gone"
                self._on_death(child, 1)
        self._remote.template_gone(generation.number, time.monotonic())
        error = generation.error or "its process died while it imported the app"
        if generation is self._loading:
            self._loading = None
            if self._generation is not None:
                log.error("new code could not be loaded, the old one goes on:\n%s", error)
            elif not self._children.stopping:
                gap = "\n" if "\n" in error else " "
                self._give_up(f"the app could not be loaded:{gap}{error}")
        elif generation is self._generation:
            log.error("the template process died; loading the app again")
            self._generation = None
            self._retry_load_mono_s = time.monotonic() + 0.1

    def _retire(self, generation: Generation) -> None:
        generation.channel.send({"op": "stop"})
        self._retired.append(generation)

    # -- children: start -------------------------------------------------------------------------------

    def _spawn(self, generation: Generation, now: float) -> None:
        child = self._children.spawning(now)
        slot = self._scoreboard.slot(child.slot)
        slot.clear()
        mine, theirs = Channel.pair()
        link = _Link(mine, recorder.create())
        self._links[child.slot] = link
        for tombstone in self._quarantine.tombstones.values():
            mine.send(tombstone.to_message())
        self._listen(mine, lambda: self._on_child(child, mine))
        cautious = self._children.crashes_in_a_row > 0
        if not generation.spawn(child.slot, cautious, theirs, link.recorder_fd):
            self._on_death(child, 1)
        theirs.close()

    def _on_spawned(self, slot: int, pid: int) -> None:
        if slot == self._remote.slot:
            self._remote.started(pid, self._unclaimed.pop(pid, None))
            return
        child = self._children.by_slot.get(slot)
        if child is None:
            return
        child.pid = pid
        if pid in self._unclaimed:
            self._on_death(child, self._unclaimed.pop(pid))

    def _on_child(self, child: Child, channel: Channel) -> None:
        for message in channel.receive():
            op = message["op"]
            if op == "ready":
                self._on_ready(child)
            elif op == "recycling":
                self._children.draining(child.slot)
                log.info("child %d is replaced: %s", child.pid, message["why"])
            elif op == "buried" and self._quarantine.buried(message["id"]):
                self._broadcast({"op": "buried", "id": message["id"]})
            elif op == "failed":
                child.error = message["text"]
                without_broker = message.get("gave_up") and not self._connected_beside(child)
                if without_broker or (message.get("fatal") and not self._announced):
                    self._give_up(message["text"])
        if channel.eof:
            self._forget(channel)

    def _on_control(self, message: dict[str, Any]) -> None:
        """What the control child asks for."""
        if message["op"] == "revoke":
            self._revoking.revoke(message["ids"], message["signum"], time.monotonic())

    def _listen(self, channel: Channel, on_readable: Callable[[], None]) -> None:
        self._selector.register(channel, selectors.EVENT_READ, on_readable)

    def _connected_beside(self, child: Child) -> bool:
        """Whether another child has what this one has not: a connection to the broker."""
        for other in self._children:
            view = self._scoreboard.slot(other.slot).read()
            known = view is not None and other.state is not State.STARTING
            if other is not child and view is not None and known and view.phase != scoreboard.RECONNECTING:
                return True
        return False

    def _forget(self, channel: Channel) -> None:
        """Stop listening; doing it twice is no error (both may be due in one round of the loop)."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(channel)
        channel.close()

    def _on_ready(self, child: Child) -> None:
        self._children.ready(child.slot, time.monotonic())
        for message in self._unread:
            self._links[child.slot].channel.send(message)
        self._unread.clear()
        if not self._announced:
            self._announced = True
            if self._generation is not None:
                self._generation.channel.send({"op": "ready"})
            log.info("ready")
        self._event("child_ready", {"pid": child.pid, "slot": child.slot})

    # -- children: end ---------------------------------------------------------------------------------

    def _reap(self) -> None:
        for pid, code in processes.reap():
            child = self._children.by_pid(pid)
            if child is not None:
                self._on_death(child, code)
            elif pid == self._remote.pid:
                self._remote.died(code, time.monotonic())
            else:
                self._unclaimed[pid] = code
        if not self._remote.awaits_pid and all(child.pid for child in self._children):
            self._unclaimed.clear()  # nobody is waited for: templates, or orphans of tasks

    def _on_death(self, child: Child, code: int) -> None:
        link = self._links[child.slot]
        self._on_child(child, link.channel)  # its last words
        del self._links[child.slot]
        self._forget(link.channel)
        processes.close_fds([link.recorder_fd] if link.recorder_fd >= 0 else [])
        slot = self._scoreboard.slot(child.slot)
        view = slot.read()
        done = view.done if view is not None else 0
        at_work = view is not None and scoreboard.is_at_work(view.phase)
        _, death = self._children.died(child.slot, code, time.monotonic(), done, at_work)
        if view is not None and scoreboard.is_running(view.phase):
            # it did not finish, whatever an earlier message of its id did
            self._scoreboard.finished.forget_task(2 * self._children.concurrency + 2, view.task_id)
        self._mortician.bury(child, death, code, view, self._children.stopping)
        slot.clear()  # after the verdict was sent: siblings look here first, then at their messages
        failures = self._children.boot_failures_in_a_row
        if death is Death.BOOT_FAILURE and failures >= self._options.max_boot_failures:
            self._give_up(
                f"{failures} children died at boot, one after the other; "
                f"the last: {child.error or processes.exit_text(code)}"
            )
        self._event("child_died", {"pid": child.pid, "slot": child.slot, "code": code, "death": death.value})

    def _give_up(self, why: str) -> None:
        if self._gave_up:  # each child meets the same: once is enough
            return
        self._gave_up = True
        log.critical("stopping: %s", why)
        self._exit_code = EXIT_FAILED
        self._stop(cold=True)

    # -- messages to children --------------------------------------------------------------------------

    def _broadcast(self, message: dict[str, Any], one: bool = False) -> None:
        """To all children, or to one that will surely read it; that may be the next to come."""
        for child in self._children:
            link = self._links.get(child.slot)
            if one and child.state is not State.READY:
                continue
            if link is not None and link.channel.send(message) and one:
                return
        if one:
            self._unread.append(message)

    def _event(self, name: str, details: dict[str, Any]) -> None:
        if self._options.on_event is not None:
            self._options.on_event(name, details)

    # -- signals ---------------------------------------------------------------------------------------

    def _on_signals(self) -> None:
        for number in self._inbox.read():
            if number == signal.SIGCHLD:
                self._reap()
            elif number in (signal.SIGTERM, signal.SIGINT):
                cold = self._children.stopping and number == signal.SIGINT
                self._stop(cold, self._options.soft_shutdown_s)
            elif number == signal.SIGQUIT:
                self._stop(True, self._options.soft_shutdown_s)
            elif number == signal.SIGHUP:
                self._reload()
            elif number == signal.SIGUSR1:
                self._dump_stacks()

    def _reload(self) -> None:
        if self._children.stopping:
            return
        if self._loading is not None:
            log.warning("new code is being loaded already")
            return
        log.info("loading new code")
        self._load()

    def _dump_stacks(self) -> None:
        for child in self._children:
            link = self._links.get(child.slot)
            if child.pid and link is not None:
                stack = recorder.ask(child.pid, link.recorder_fd)
                log.warning("stacks of child %d:\n%s", child.pid, stack or "(it does not answer)")

    def _stop(self, cold: bool, grace_s: float = 0.0) -> None:
        """``grace_s``: how long tasks may go on after the first word of a cold stop."""
        now = time.monotonic()
        if not self._children.stopping:
            self._children.stopping = True
            if not self._gave_up:
                log.info("cold stop: ending tasks" if cold else "warm stop: waiting for running tasks")
            self._event("stopping", {"cold": cold})
            if self._options.drain_deadline_s is not None:
                self._stop_deadline_mono_s = now + self._options.drain_deadline_s
            if self._loading is not None:
                self._forget(self._loading.channel)
                self._loading.kill()
                self._loading = None
        if cold:
            grace_s = 0.0 if self._cold else grace_s
            drained_mono_s = self._stop_deadline_mono_s
            self._cold = True
            self._stop_deadline_mono_s = now + max(grace_s, _QUIT_GRACE_S)
            if grace_s:
                if drained_mono_s is not None:
                    self._stop_deadline_mono_s = min(drained_mono_s, self._stop_deadline_mono_s)
                log.warning("running tasks have %g s to end, or until the next SIGINT or SIGQUIT", grace_s)
        for child in self._children:
            self._drain(child, scoreboard.QUIT if self._cold else scoreboard.DRAIN)

    def _drain(self, child: Child, command: int) -> None:
        self._scoreboard.slot(child.slot).command = command
        self._links[child.slot].channel.send({"op": "quit" if command == scoreboard.QUIT else "drain"})
        self._children.draining(child.slot)

    # -- what is due -----------------------------------------------------------------------------------

    def _tick(self, now: float) -> None:
        for child in self._children:
            self._watch(child, now)
        self._revoking.tick(now)
        self._remote.keep(self._generation, now, self._options)
        if self._children.stopping:
            self._tick_stop(now)
            return
        if self._generation is None:
            if self._loading is None and now >= self._retry_load_mono_s:
                self._retry_load_mono_s = now + _TEMPLATE_RETRY_S
                self._load()
            return
        plan = self._children.plan(now)
        for slot in plan.drain:
            self._drain(self._children.by_slot[slot], scoreboard.DRAIN)
        for _ in range(plan.spawn):
            self._spawn(self._generation, now)

    def _tick_stop(self, now: float) -> None:
        if self._stop_deadline_mono_s is None or now < self._stop_deadline_mono_s:
            return
        if not self._cold:
            log.warning("the drain deadline of %g s has passed", self._options.drain_deadline_s)
            self._stop(cold=True)
            return
        for child in self._children:
            if child.state is not State.KILLED and child.pid:
                view = self._scoreboard.slot(child.slot).read()
                if view is not None and scoreboard.is_running(view.phase):
                    self._exit_code = self._exit_code or EXIT_KILLED_TASKS
                    log.warning("killing child %d in task %s[%s]", child.pid, view.task_name, view.task_id)
                self._kill(child, "cold stop")

    def _watch(self, child: Child, now: float) -> None:
        link = self._links[child.slot]
        link.channel.flush()
        slot = self._scoreboard.slot(child.slot)
        view = slot.read()
        if view is not None and view.done and now - (child.ready_mono_s or now) > 1.0:
            self._children.proven()
        boot_deadline_s = self._options.boot_deadline_s or _BOOT_DEADLINE_S
        verdict = judge(child, view, now, boot_deadline_s, self._options.deaf_after_s)
        if verdict is None:
            return
        stack = recorder.ask(child.pid, link.recorder_fd)
        if verdict.reason == HARD_LIMIT:
            after = slot.read()
            if view is None or after is None or after.deadline_mono_s != view.deadline_mono_s:
                return  # it ended while we asked
            child.state = State.KILLED  # it cannot be the one that settles this
            self._mortician.time_limit(child, after, stack)
        else:
            log.error(
                "killing child %d: %s, %.1f s over\n%s", child.pid, verdict.reason, verdict.over_s, stack
            )
        self._kill(child, verdict.reason)

    def _kill(self, child: Child, reason: str) -> None:
        child.killed_for = reason
        child.state = State.KILLED
        processes.kill_group(child.pid, signal.SIGKILL)
