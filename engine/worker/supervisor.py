"""The supervisor: forks, reaps, respawns, kills, and stops in order. It knows nothing of brokers or results.

One thread, one loop: signals (as bytes in a pipe), control messages, then what the books say is due. It never
imports the app (templates do, see `engine.worker.template`) and opens nothing but its own socket pairs.

SIGTERM or a first SIGINT is a warm stop; a second SIGINT, SIGQUIT or the drain deadline a cold one (see
`engine.worker.stopping`). A second SIGTERM changes nothing, as in Celery: what sends it to a worker may well
send it twice. SIGHUP loads new code; SIGUSR1 dumps all stacks.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import time
from dataclasses import replace
from typing import Any

from engine.worker import processes, scoreboard
from engine.worker.banner import log_banner
from engine.worker.children import Child, Children, Death, State
from engine.worker.control import Channel
from engine.worker.generation import Closable, Generation, GenerationState, Order
from engine.worker.generations import Generations
from engine.worker.lines import Lines
from engine.worker.logs import set_color
from engine.worker.mortician import Mortician
from engine.worker.options import MAX_CONCURRENCY, WorkerOptions
from engine.worker.quarantine import Quarantine
from engine.worker.remote import Remote
from engine.worker.revoking import Revoking
from engine.worker.scoreboard import Scoreboard
from engine.worker.signals import SignalInbox
from engine.worker.stopping import Due, Stopping
from engine.worker.watchdog import HARD_LIMIT, judge

log = logging.getLogger("engine.worker")

_TICK_S = 0.25
_TEMPLATE_RETRY_S = 5.0
_BOOT_DEADLINE_S = 60.0
#: so long the first children have the CPUs for themselves, unless they are ready sooner
_FIRST_TURN_S = 0.1

EXIT_OK = 0
EXIT_FAILED = 1  #: the app could not be loaded, or children die at boot
EXIT_KILLED_TASKS = 3  #: a cold stop interrupted tasks (they will run again)


class Supervisor:
    """One worker. ``run`` returns its exit code. ``first`` is being loaded already."""

    def __init__(
        self,
        app_path: str,
        options: WorkerOptions,
        entry_module: str,
        board: Scoreboard,
        first: Generation,
    ) -> None:
        self._app_path = app_path
        self._options = options
        self._entry_module = entry_module
        self._scoreboard = board
        self._children = Children(0, self._scoreboard.child_slots)
        self._lines = Lines()
        self._unclaimed: dict[int, int] = {}  # pids that ended before the template told whose they are
        self._quarantine = Quarantine(options.max_crashes_per_task)
        self._mortician = Mortician(self._quarantine, self._broadcast)
        self._revoking = Revoking(self._scoreboard, self._children, self._mortician)
        self._remote = Remote(self._scoreboard, self._lines.listen, self._lines.forget, self._on_control)
        self._generations = Generations(
            self._lines, self._fork_template, self._on_template, self._on_template_gone
        )
        self._first = first
        self._announced = False
        self._exit_code = EXIT_OK
        self._stopping = Stopping()
        self._gave_up = False
        self._retry_load_mono_s = 0.0
        self._first_turn_ends_mono_s = 0.0

    # -- life ------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Work until told to stop. The exit code: see the ``EXIT_`` constants."""
        processes.become_subreaper()
        self._inbox = SignalInbox()
        selector = self._lines.selector
        selector.register(self._inbox, selectors.EVENT_READ, self._on_signals)
        try:
            self._generations.begin(self._first)
            while not self._finished():
                for key, _ in selector.select(_TICK_S):
                    key.data()
                self._tick(time.monotonic())
        finally:
            self._clean_up()
        return self._exit_code

    def _finished(self) -> bool:
        if not self._children.stopping or len(self._children) or self._generations.loading:
            return False
        return self._remote.ended(time.monotonic())

    def _clean_up(self) -> None:
        for child in self._children:
            processes.kill_group(child.pid, signal.SIGKILL)
        self._remote.kill()
        self._generations.end()
        self._lines.tell_unread()
        self._revoking.close()
        self._lines.selector.close()
        self._inbox.restore()

    # -- generations -----------------------------------------------------------------------------------

    def _fork_template(self, number: int) -> Generation:
        ours: list[Closable] = [self._inbox, self._lines.selector, self._revoking, *self._lines.channels()]
        ours += [self._remote.channel] if self._remote.channel is not None else []
        ours += self._generations.channels()
        return Generation.fork(
            number, self._app_path, self._options, self._scoreboard, self._entry_module, ours
        )

    def _on_template(self, generation: Generation, message: dict[str, Any]) -> None:
        op = message["op"]
        if op == "spawned":
            for slot, pid in message["pids"]:
                self._on_spawned(slot, pid)
        elif op == "spawn_failed":
            log.error("could not start a child: %s", message["text"])
            for slot in message["slots"]:
                if slot == self._remote.slot:
                    self._remote.died(1, time.monotonic())
                else:
                    self._on_death(self._children.by_slot[slot], 1)
        else:
            generation.take_in(message)
            self._on_loaded(generation)

    def _on_loaded(self, generation: Generation) -> None:
        if generation.state is GenerationState.FAILED:
            return  # it ends by itself; its end of file is dealt with then
        first = self._generations.current is None
        self._generations.adopt(generation)
        self._children.generation = generation.number
        self._options = replace(self._options, **generation.info.get("effective", {}))
        self._quarantine.max_crashes = self._options.max_crashes_per_task
        set_color(self._options.log_color)
        self._children.concurrency = self._options.concurrency or processes.usable_cpus()
        if first:
            self._first_turn_ends_mono_s = time.monotonic() + _FIRST_TURN_S
            log_banner(generation.info, self._options, os.getpid())
            if pattern := generation.info.get("state_db"):
                self._revoking.remember_in(pattern, self._options.nodename())
        else:
            self._remote.replace()
            log.info("new code loaded (generation %d): replacing children one by one", generation.number)
        self._event("loaded", generation.info)

    def _on_template_gone(self, generation: Generation) -> None:
        for child in self._children:
            if child.generation == generation.number and not child.pid:  # it was on order, and never comes
                child.killed_for = "its template is gone"
                self._on_death(child, 1)
        self._remote.template_gone(generation.number, time.monotonic())
        error = generation.error or "its process died while it imported the app"
        generations = self._generations
        if generation is generations.loading:
            generations.loading = None
            if generations.current is not None:
                log.error("new code could not be loaded, the old one goes on:\n%s", error)
            elif not self._children.stopping:
                gap = "\n" if "\n" in error else " "
                self._give_up(f"the app could not be loaded:{gap}{error}")
        elif generation is generations.current:
            log.error("the template process died; loading the app again")
            generations.current = None
            self._retry_load_mono_s = time.monotonic() + 0.1

    # -- children: start -------------------------------------------------------------------------------

    def _spawn(self, generation: Generation, count: int, now: float) -> None:
        cautious = self._children.crashes_in_a_row > 0
        orders = [self._order(self._children.spawning(now), cautious) for _ in range(count)]
        for order in generation.spawn(orders):
            self._on_death(self._children.by_slot[order.slot], 1)
        for order in orders:
            order.control.close()

    def _order(self, child: Child, cautious: bool) -> Order:
        slot = self._scoreboard.slot(child.slot)
        slot.clear()
        line, theirs = self._lines.open(child.slot, lambda channel: self._on_child(child, channel))
        for tombstone in self._quarantine.tombstones.values():
            line.channel.send(tombstone.to_message())
        return Order(child.slot, theirs, line.recorder_fd, cautious)

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
            self._lines.forget(channel)

    def _on_control(self, message: dict[str, Any]) -> None:
        """What the control child asks for."""
        if message["op"] == "revoke":
            self._revoking.revoke(message["ids"], message["signum"], time.monotonic())

    def _connected_beside(self, child: Child) -> bool:
        """Whether another child has what this one has not: a connection to the broker."""
        for other in self._children:
            view = self._scoreboard.slot(other.slot).read()
            known = view is not None and other.state is not State.STARTING
            if other is not child and view is not None and known and view.phase != scoreboard.RECONNECTING:
                return True
        return False

    def _on_ready(self, child: Child) -> None:
        self._children.ready(child.slot, time.monotonic())
        self._lines.is_ready(child.slot)
        if not self._announced:
            self._announced = self._remote.speaks = True
            if self._generations.current is not None:
                self._generations.current.channel.send({"op": "ready"})
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
        self._on_child(child, self._lines[child.slot].channel)  # its last words
        self._lines.close(child.slot)
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
        """To all children, or to one of them."""
        (self._lines.to_one if one else self._lines.to_all)(iter(self._children), message)

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
                self._lines.log_stacks(iter(self._children))

    def _reload(self) -> None:
        if self._children.stopping:
            return
        if self._generations.loading is not None:
            log.warning("new code is being loaded already")
            return
        log.info("loading new code")
        self._generations.load()

    def _stop(self, cold: bool, grace_s: float = 0.0) -> None:
        """``grace_s``: how long tasks may go on after the first word of a cold stop."""
        now = time.monotonic()
        if not self._children.stopping:
            self._children.stopping = True
            if not self._gave_up:
                log.info("cold stop: ending tasks" if cold else "warm stop: waiting for running tasks")
            self._event("stopping", {"cold": cold})
            self._stopping.warm(now, self._options.drain_deadline_s)
            self._generations.stop_loading()
        if cold and (granted_s := self._stopping.turn_cold(now, grace_s)):
            log.warning("running tasks have %g s to end, or until the next SIGINT or SIGQUIT", granted_s)
        for child in self._children:
            self._drain(child, scoreboard.QUIT if self._stopping.cold else scoreboard.DRAIN)

    def _drain(self, child: Child, command: int) -> None:
        self._scoreboard.slot(child.slot).command = command
        self._lines[child.slot].channel.send({"op": "quit" if command == scoreboard.QUIT else "drain"})
        self._children.draining(child.slot)

    # -- what is due -----------------------------------------------------------------------------------

    def _tick(self, now: float) -> None:
        for child in self._children:
            self._watch(child, now)
        self._revoking.tick(now)
        if self._children.stopping:
            self._tick_stop(now)
        else:
            self._tick_work(now)
        if self._announced or now >= self._first_turn_ends_mono_s:
            self._remote.keep(self._generations.current, now, self._options)

    def _tick_work(self, now: float) -> None:
        generation = self._generations.current
        if generation is None:
            if self._generations.loading is None and now >= self._retry_load_mono_s:
                self._retry_load_mono_s = now + _TEMPLATE_RETRY_S
                self._generations.load()
            return
        plan = self._children.plan(now)
        for slot in plan.drain:
            self._drain(self._children.by_slot[slot], scoreboard.DRAIN)
        count = min(plan.spawn, self._room(now))
        if count > 0:
            self._spawn(generation, count, now)

    def _room(self, now: float) -> int:
        """How many children may be started now. At the worker's start as many as there are CPUs at first, so
        that tasks that wait are not kept waiting until all children have booted."""
        if self._announced or now >= self._first_turn_ends_mono_s:
            return MAX_CONCURRENCY
        return processes.usable_cpus() - len(self._children)

    def _tick_stop(self, now: float) -> None:
        due = self._stopping.due(now)
        if due is Due.NOTHING:
            return
        if due is Due.TURN_COLD:
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
        line = self._lines[child.slot]
        line.channel.flush()
        slot = self._scoreboard.slot(child.slot)
        view = slot.read()
        if view is not None and view.done and now - (child.ready_mono_s or now) > 1.0:
            self._children.proven()
        boot_deadline_s = self._options.boot_deadline_s or _BOOT_DEADLINE_S
        verdict = judge(child, view, now, boot_deadline_s, self._options.deaf_after_s)
        if verdict is None:
            return
        stack = line.stacks(child.pid)
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
