"""A child: one process, one connection to the broker. It receives, runs, settles, one task at a time.

The loop over what was claimed is native, `engine.work.Turn`: each message is sorted (`engine.worker.intake`),
run (`engine.worker.execution`) and noted for settling (`engine.worker.settling`). Here is what happens
between batches, and what few tasks need. All use of the transport happens under the gate, which is open only
while user code runs: see `engine.worker.flusher`.

Stopping: the supervisor's word, its death, SIGTERM and the limits on tasks and memory all end the loop
between two tasks. What was claimed and not started goes back to its queue.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NoReturn

from engine.codec import Delivery
from engine.errors import ConnectionLost, TransportClosed
from engine.results.base import ResultStore
from engine.transport.base import Transport
from engine.work import Job, Turn, trim_heap
from engine.worker import processes, scoreboard
from engine.worker.execution import Execution
from engine.worker.fate import Fate
from engine.worker.flusher import Flusher
from engine.worker.intake import Intake
from engine.worker.job import ACK, NOTHING, REQUEUE, KnownTask, finish_of
from engine.worker.link import Link
from engine.worker.outcomes import started
from engine.worker.prefetch import Prefetch
from engine.worker.settling import Settler
from engine.worker.tasklog import TaskLog

log = logging.getLogger("engine.worker")

_RECEIVE_S = 1.0
_MOST_PENDING = 128
_RECOVER_IDLE_S = 1.0
_RECOVER_BUSY_S = 3.0
_MEMORY_EVERY_S = 0.05
_SMALL_BODY = 64 * 1024
#: a delivery of a counting broker that pushes (quorum queues) and that was given back so often already is
#: kept: each return counts towards the queue's delivery limit
_MOST_RETURNS = 3


class Child(Turn):
    """The loop and its state. `engine.worker.assembly` puts the parts together, in the template."""

    def __init__(
        self,
        link: Link,
        prefetch: Prefetch,
        execution: Execution,
        max_tasks: int | None,
        max_memory_kib: int | None,
    ) -> None:
        buffer: deque[Delivery] = deque()
        super().__init__(threading.Lock(), buffer, execution)
        self.on_recycle: Callable[[str], None] = lambda why: None
        self.on_ready: Callable[[], None] = lambda: None
        self._link = link
        self._prefetch = prefetch
        self._hostname = execution.hostname
        self._max_tasks = max_tasks
        self._max_memory_kib = max_memory_kib
        self.has_limits = max_tasks is not None or max_memory_kib is not None
        self._consuming = False
        self._ahead = False  # the broker may push more than the running task's message
        self._acks_early = False
        self._keeps = False  #: what is in the buffer is what was not handed back
        self._recovered_mono_s = 0.0
        self._weighed_mono_s = 0.0
        self._rested_after = -1  #: tasks that had run when this child last had nothing to do
        self._trimmed_after = 0  #: the same when its heap was last looked at while it had
        self._log = TaskLog()
        self.logs_all = self._log.enabled

    def born(self, slot: scoreboard.Slot, generation: int, cautious_for: int) -> None:
        """In its own process; ``cautious_for`` so many tasks it claims one at a time."""
        self._slot = slot
        self._generation = generation
        self._pid = os.getpid()
        if cautious_for:
            self._prefetch.be_cautious(cautious_for)
        self.take_place(slot.record(), processes.canary(self._link.control_fd))

    def wire(
        self,
        transport: Transport,
        store: ResultStore | None,
        settler: Settler,
        intake: Intake,
        fate: Fate,
        flusher: Flusher,
        read_control: Callable[[], None],
    ) -> None:
        """The parts that belong to a connection, or need the child itself."""
        self._pushes = transport.capabilities.prefetch
        self._settler = settler
        self._store = store
        self.rewire(transport)
        self._fate = fate
        self._read_control = read_control
        self.use(intake, settler, flusher)

    def booted(self) -> None:
        """The process is set up; from here on it connects for as long as it takes."""
        self.sign_of_life()
        self._slot.phase(scoreboard.RECONNECTING)

    def cut_off(self) -> NoReturn:
        """A task has closed descriptors that are the worker's (``os.closerange``). At once, before their
        numbers are given to other files and written to: the process ends, in that task as its slot says."""
        view = self._slot.read()
        if view is not None and view.task_id and not scoreboard.is_running(view.phase):
            self._slot.phase(scoreboard.RUNNING)  # noticed late: it was the last that ran
        os._exit(processes.EXIT_CUT_OFF)

    def sign_of_life(self) -> None:
        """Tell the supervisor that this child is not stuck, and how far it has come."""
        self._slot.progress(self._pid, self._generation, self.ran, self.failed, time.monotonic())

    # -- the loop --------------------------------------------------------------------------------------

    def run(self) -> None:
        """Work until told to stop, then give back what was not started. The transport is left open."""
        with self.gate:
            while not self.stop_why:
                try:
                    if not self._consuming:
                        self._consume()
                    self.work()
                except (ConnectionLost, TransportClosed) as error:
                    if not self._recover_connection(error):
                        break
            self._drain()

    def _consume(self) -> None:
        """Start to consume, or consume with another prefetch."""
        self._link.consume(self._prefetch.value)
        self.batch = max(1, min(_MOST_PENDING, self._prefetch.value // 3))
        # AMQP counts the prefetch for each queue, and no longer what was acknowledged before its run
        self._ahead = self._prefetch.value > 1 or len(self._link.names) > 1 or self._acks_early
        if not self._consuming:
            self._consuming = True
            self.on_ready()

    def refill(self) -> None:
        """Get more messages; before waiting for them, settle what is finished."""
        transport = self.transport
        settler = self._settler
        self.guarded = False
        if 0 < len(settler.pending) < self.batch and self._consuming and not transport.exhausted:
            deliveries = transport.receive(0)
            if deliveries:
                self._intake_batch(deliveries)
                return
        now = time.monotonic()
        if settler.pending:
            now = self.settle(now)
        self._between_batches(now)
        if self.stop_why:
            return
        if not self._consuming:  # it was cancelled to hand messages back
            self._consume()
        deliveries = transport.receive(_RECEIVE_S)
        if deliveries:
            self._intake_batch(deliveries)
        else:
            self._read_control()
            if self.ran != self._rested_after:  # a second without work: what the heap keeps is not needed
                self._rested_after = self.ran
                trim_heap()

    def _intake_batch(self, deliveries: Sequence[Delivery]) -> None:
        self.buffer.extend(deliveries)
        self._keeps = False
        self._fate.next_batch()

    def _between_batches(self, now: float) -> None:
        """Signs of life, messages of the supervisor, the broker's own housekeeping."""
        self._slot.phase(scoreboard.IDLE)
        self._slot.progress(self._pid, self._generation, self.ran, self.failed, now)
        if self._slot.word != self.word:
            self.heed()
        if now - self._recovered_mono_s >= _RECOVER_IDLE_S:
            self._keep_house(now)

    def heed(self) -> None:
        """The supervisor has said something: there are revoked tasks, or this child is to end."""
        self.word = self._slot.word
        self._fate.revoked_ids.refresh()
        if self._slot.command:
            self._read_control()
            self.stop_why = self.stop_why or "told to"

    # -- one message -----------------------------------------------------------------------------------

    def prepare(self, job: Job) -> None:
        """What must not wait for a task that may be long; and what has to happen before it runs."""
        known: KnownTask = job.known
        pace = known.pace
        if not pace.short:
            if self._settler.pending:
                self.settle(time.monotonic())
            if pace.long and self.buffer and not self._keeps:
                self._hand_back()
        if known.acks_early:
            self.transport.ack([job.delivery])
            job.finish = NOTHING
            self._acks_early = self._ahead = True
        if known.track_started and known.keeps(job.message):
            self._settler.store_now([started(job, self._hostname, self._pid)])

    def note_failure(self, job: Job) -> None:
        """The run did not succeed: what that means for its message."""
        if job.finish == ACK:
            job.finish = finish_of(job.outcome, job.known)
            if job.finish == REQUEUE:
                self._fate.sent_back([job.delivery])
        if job.outcome.state == "FAILURE":
            self.failed += 1

    def log_ended(self, job: Job) -> None:
        """One line about a job that ran."""
        self._log.ended(job)

    def recycle_if_due(self, now: float) -> None:
        """This child has limits: see whether it has reached one."""
        if self._max_tasks is not None and self.ran >= self._max_tasks:
            self._recycle(f"it has run {self.ran} tasks")
        elif self._max_memory_kib is not None:
            self._weigh(now)

    def settle(self, now: float) -> float:
        """Settle what waits; the time after it. Adapts the prefetch to what was seen."""
        self.guarded = False
        self._settler.settle()
        tasks, busy_s, longest_s = self.unobserved, self.busy_s, self.longest_s
        self.unobserved = 0
        self.busy_s = self.longest_s = 0.0
        self._slot.progress(self._pid, self._generation, self.ran, self.failed, now)
        if tasks and self._prefetch.observe(tasks, busy_s, longest_s, now):
            self._consume()
        if now - self._recovered_mono_s >= _RECOVER_BUSY_S:
            self._keep_house(now)
        return now

    def _keep_house(self, now: float) -> None:
        """Every second or few."""
        self._recovered_mono_s = now
        if self._recovers:
            self.transport.recover()
        # what the heap keeps may be of large ones before; at rest nothing comes to it
        if self.ran != self._trimmed_after and self.transport.body_bytes < _SMALL_BODY:
            self._trimmed_after = self.ran
            trim_heap()

    def _weigh(self, now: float) -> None:
        if now - self._weighed_mono_s < _MEMORY_EVERY_S:
            return
        self._weighed_mono_s = now
        used, most = processes.rss_kib(), self._max_memory_kib
        if most is not None and used > most:
            trim_heap()  # what is kept free for the next large bodies is no reason to end
            used = processes.rss_kib()
        if most is not None and used > most:
            self._recycle(f"it uses {used} KiB of memory, more than {most}")

    def _recycle(self, why: str) -> None:
        if not self.stop_why:
            self.stop_why = why
            self.on_recycle(why)

    # -- beside a running task (the flusher's side; the gate is held) -----------------------------------

    def outcomes_waiting_since(self) -> float:
        return self._settler.oldest_mono_s if self._settler.pending else 0.0

    def has_claimed(self) -> bool:
        """Messages wait here, or may wait unseen in the socket: a broker that pushes fills the prefetch."""
        return (bool(self.buffer) and not self._keeps) or (self._pushes and self._consuming and self._ahead)

    def settle_beside(self) -> None:
        self._beside(self._settler.settle)

    def refresh_every_s(self) -> float | None:
        every_s: float | None = self.transport.refresh_every_s
        return every_s

    def refresh_beside(self) -> None:
        self.transport.refresh()

    def hand_back_beside(self) -> None:
        self._beside(self._hand_back)

    def _beside(self, act: Callable[[], None]) -> None:
        """What fails half-way is neither pending nor settled: only a new connection brings it again."""
        transport = self.transport
        try:
            act()
        except BaseException:
            transport.abandon()
            raise
        transport.guard()

    def _hand_back(self) -> None:
        """Give back what was claimed and not started. Consuming is cancelled first: else the broker would
        push the same messages to us again."""
        transport = self.transport
        transport.cancel()
        self._consuming = False
        claimed = [*self.buffer, *transport.receive(0)]
        self.buffer.clear()
        most = _MOST_RETURNS if self._pushes else math.inf
        kept = [one for one in claimed if (one.delivery_count or 0) >= most]
        returned = [one for one in claimed if (one.delivery_count or 0) < most]
        self.buffer.extend(kept)
        self._keeps = True
        if returned:
            self._fate.sent_back(returned)
            transport.nack(returned, requeue=True)

    # -- losing the connection, and stopping -----------------------------------------------------------

    def _recover_connection(self, error: Exception) -> bool:
        """The connection broke: what is finished gets safe, then connect again. False when stopping."""
        self._link.lost(error)
        self._slot.phase(scoreboard.RECONNECTING)
        self._fate.sent_back(self.buffer)
        self.buffer.clear()
        self._consuming = False
        for job in self._settler.pending:
            job.finish = NOTHING
        with contextlib.suppress(ConnectionLost, TransportClosed):  # what could not be stored is put back:
            self._settler.settle()  # it comes again anyway
        transport = self._link.reopen()
        if transport is None:
            return False
        if transport is not self.transport:
            self.rewire(transport)
        return True

    def rewire(self, transport: Transport) -> None:
        """Another connection object (failover): the parts that hold the old one are told."""
        self.transport = transport
        self._recovers = not transport.capabilities.recovers_by_itself
        self.wants_refresh = transport.refresh_every_s is not None
        self._settler.use(transport, self._store)

    def _drain(self) -> None:
        self._slot.phase(scoreboard.DRAINING)
        try:
            if self.transport.connected:
                self.transport.cancel()
                claimed = [*self.buffer, *self.transport.receive(0)]
                self._settler.settle()
                if claimed:
                    self._fate.sent_back(claimed)
                    self.transport.nack(claimed, requeue=True)
            else:
                self._settler.settle()
        except (ConnectionLost, TransportClosed) as error:
            log.warning("the connection was lost while draining: %s", error)
        self.buffer.clear()
        self.sign_of_life()
