"""A child put together from its parts, and its life from the first connection to the last word.

The parts know each other only as far as they must; who gets what from whom is decided here.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from engine.codec import Delivery
from engine.errors import EngineError, PublishError, TransportError
from engine.publish_retry import DEFAULT
from engine.results.base import ResultStore
from engine.runner import RUNNER
from engine.transport.base import Transport
from engine.work import Job, finished_keys, have_tombstones
from engine.worker import deadletter, processes, redirect
from engine.worker.child import Child
from engine.worker.execution import Execution
from engine.worker.fate import Fate
from engine.worker.flusher import Flusher
from engine.worker.intake import Intake
from engine.worker.job import KnownTask
from engine.worker.limits import SoftLimit, resolve
from engine.worker.link import Link
from engine.worker.logs import clean
from engine.worker.options import WorkerOptions
from engine.worker.outcomes import obituary
from engine.worker.prefetch import MOST, Prefetch
from engine.worker.quarantine import Tombstone
from engine.worker.revoked import RevokedIds
from engine.worker.settling import Settler
from engine.worker.template import Birth

log = logging.getLogger("engine.worker")

_CAUTIOUS_TASKS = 100
_MOST_TOMBSTONES = 10_000
_PAUSE_S = 0.2


class Life:
    """One child's life. Made once, in the template: each child is spared copies of the memory that making it
    touches. ``begin`` says whose it is."""

    def __init__(self, app: Any, options: WorkerOptions) -> None:
        conf = app.conf
        self._app = app
        self._hostname = options.nodename()
        self._known: dict[str, KnownTask] = {}
        self._hard_s = resolve(options.time_limit, conf.task_time_limit) or None
        self._soft_s = resolve(options.soft_time_limit, conf.task_soft_time_limit) or None
        self._soft_limit = SoftLimit()
        self._tombstones: OrderedDict[str, Tombstone] = OrderedDict()
        self.was_ready = False
        max_tasks = options.max_tasks_per_child or conf.worker_max_tasks_per_child
        self._link = Link(app, options.queues, self._keep_waiting, self._hostname)
        self._child = Child(
            self._link,
            _prefetch(options.prefetch, conf, max_tasks, self._link.body_bytes),
            Execution(app, RUNNER, self._soft_limit, self._hostname),
            max_tasks,
            options.max_memory_per_child_kib or conf.worker_max_memory_per_child,
        )
        self._child.on_ready = self._on_ready
        self._child.on_recycle = self._on_recycle
        self._settler = Settler(
            lambda messages: app.producer.publish_messages(messages, policy=DEFAULT),
            self._on_safe,
            self._child.sign_of_life,
            self._hostname,
            bool(conf.result_extended),
        )

    def begin(self, birth: Birth) -> None:
        """In the child, before the process sets itself up: its signals ask this life to stop."""
        self._birth = birth
        self._control = birth.control
        self._control_file = processes.file_of(birth.control.fileno())
        self._link.control_fd = birth.control.fileno()
        slot = birth.scoreboard.slot(birth.slot)
        self._child.born(slot, birth.generation, _CAUTIOUS_TASKS if birth.cautious else 0)

    def ask_to_stop(self, why: str) -> None:
        """The loop ends between two tasks. Safe in a signal handler."""
        self._child.stop_why = self._child.stop_why or why

    def live(self) -> None:
        """Connect, work, hand back, close. Raises EngineError for what no waiting mends."""
        self._soft_limit.install()
        self._child.booted()
        transport = self._link.open()
        if transport is None:
            return
        store = self._app.open_store(transport)
        try:
            self._wire(transport, store)
            self._child.run()
        finally:
            if store is not None:
                store.close()
            self._link.close()

    def _wire(self, transport: Transport, store: ResultStore | None) -> None:
        child, app, settler = self._child, self._app, self._settler
        fate = Fate(
            self._birth.scoreboard,
            self._birth.scoreboard.finished,
            self._birth.slot,
            2 * (self._birth.options.concurrency or processes.usable_cpus()) + 2,
            self._read_control,
            RevokedIds(self._birth.scoreboard.revoked),
            self._tombstones,
        )
        intake = Intake(
            app,
            self._known,
            self._find,
            fate,
            lambda job: settler.add(job, time.monotonic()),
            self._park,
            self._declare_dead,
            self._hostname,
            transport.capabilities.delays,
            _success_in(store) if app.conf.worker_deduplicate_successful_tasks else None,
        )
        flusher = Flusher(child, self._control.fileno())
        child.wire(transport, store, settler, intake, fate, flusher, self._read_control)

    # -- tasks -----------------------------------------------------------------------------------------

    def _find(self, name: str) -> KnownTask | None:
        known = self._known.get(name)
        if known is None:
            task = self._app.tasks.get(name)
            if task is None:
                return None
            known = self._known[name] = KnownTask(task, self._app.conf, self._hard_s, self._soft_s)
        return known

    def _on_safe(self, jobs: list[Job]) -> None:
        """Results and follow-ups of these are safe; their acknowledgement is next."""
        if keys := finished_keys(jobs):
            self._birth.scoreboard.finished.add(self._birth.slot, keys)
        if have_tombstones(jobs):
            for job in jobs:
                if job.tombstone_id is not None:
                    # not only when the supervisor says so: once its result shows, the id may be sent again
                    self._tombstones.pop(job.tombstone_id, None)
                    self._control.send({"op": "buried", "id": job.tombstone_id})

    # -- the broker's side -----------------------------------------------------------------------------

    def _park(self, delivery: Delivery, due_at: float) -> None:
        transport = self._child.transport
        try:
            transport.park(delivery, due_at)
        except PublishError as error:
            log.error("could not put a message off, it goes back to its queue: %s", error)
            time.sleep(_PAUSE_S)
            transport.nack([delivery], requeue=True)

    def _declare_dead(self, queue: str) -> None:
        try:
            self._app.producer.maybe_declare(deadletter.queue_spec(queue))
        except TransportError as error:  # then publishing to it fails, and the message goes back
            log.error("could not declare the dead-letter queue %s: %s", queue, error)

    # -- the supervisor's side -------------------------------------------------------------------------

    def _keep_waiting(self) -> bool:
        self._child.sign_of_life()
        self._read_control()
        return not self._child.stop_why

    def _on_ready(self) -> None:
        if not self.was_ready:
            self.was_ready = True
            self._control.send({"op": "ready"})

    def _on_recycle(self, why: str) -> None:
        self._control.send({"op": "recycling", "why": why})

    def _read_control(self) -> None:
        """What the supervisor said since the last look. An idle child comes by here once a second."""
        redirect.release()
        for message in self._control.receive():
            op = message["op"]
            if op in ("drain", "quit"):
                self.ask_to_stop("told to")
            elif op == "tombstone":
                self._tombstones[message["id"]] = Tombstone.from_message(message)
                while len(self._tombstones) > _MOST_TOMBSTONES:
                    self._tombstones.popitem(last=False)
            elif op == "buried":
                self._tombstones.pop(message["id"], None)
            elif op == "obituary":
                self._settler.store_now([obituary(Tombstone.from_message(message))])
        if self._control.eof:
            if processes.file_of(self._control.fileno()) != self._control_file:
                self._child.cut_off()
            self.ask_to_stop("the supervisor is gone")


def _success_in(store: ResultStore | None) -> Callable[[str], bool] | None:
    """Whether a store has the SUCCESS of a task; None for one that cannot be asked (rpc)."""
    if store is None or store.consuming:
        return None

    def succeeded(task_id: str) -> bool:
        try:
            meta = store.get(task_id)
        except EngineError as error:
            log.warning("cannot tell whether task %s has succeeded, it is run: %s", clean(task_id), error)
            return False
        return meta is not None and meta.status == "SUCCESS"

    return succeeded


def _prefetch(
    wanted: int | None, conf: Any, max_tasks: int | None, body_bytes: Callable[[], int]
) -> Prefetch:
    """The prefetch as it was asked for; None adapts. Never more than the child may run."""
    fixed = wanted
    if fixed is None:
        fixed = conf.worker_prefetch if conf.worker_prefetch is not None else conf.worker_prefetch_multiplier
    if conf.worker_disable_prefetch:
        fixed = 1
    if fixed == 0:  # Celery: no limit
        fixed = MOST
    if max_tasks is not None and max_tasks < MOST and fixed is None:
        fixed = 1 if max_tasks == 1 else None
    return Prefetch(fixed, body_bytes=body_bytes)
