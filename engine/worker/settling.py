"""Settling: the one place where a message's fate is sealed, in this order and in no other.

1. results are stored, and the store has said so;
2. what the tasks published (a retry, a chain's next step, dead letters) is with the broker, confirmed;
3. the messages are acknowledged.

A crash between two steps repeats work, it never loses any. Outcomes pile up and are settled together, one
write for all results and one acknowledgement for a run of tags. What cannot be stored or published after a
few tries goes back to its queue, unacknowledged work is never dropped.

Callers hold the child's gate (see `engine.worker.flusher`); user code never runs in here, and no signal
handler of ours raises: the soft limit is disarmed before an outcome gets here.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from engine.errors import CodecError, ConnectionFailed, ConnectionLost, EngineError, TransportClosed
from engine.results.base import ResultMeta, ResultStore
from engine.transport.base import Transport
from engine.work import Job, Pending, are_plain, deliveries_to, publish_nothing, to_store
from engine.worker.job import ACK, DROP, REQUEUE
from engine.worker.logs import clean
from engine.worker.outcomes import failed_instead, metas_of

log = logging.getLogger("engine.worker")

_STORE_TRIES = 5
_PAUSE_FIRST_S = 0.1
_PAUSE_MAX_S = 2.0

Publish = Callable[[Sequence[Any]], Sequence[Exception | None]]


class Settler(Pending):
    """Outcomes that wait, and the way they end.

    Args:
        publish: publishes messages, confirmed, with its own retries; one outcome each.
        on_safe: hears of jobs whose results and follow-ups are safe.
        sign_of_life: called between tries, so that the supervisor sees a child that waits for a store.
        extended: store name, arguments and the like with each result.
    """

    def __init__(
        self,
        publish: Publish,
        on_safe: Callable[[list[Job]], None],
        sign_of_life: Callable[[], None],
        hostname: str,
        extended: bool = False,
    ) -> None:
        self._publish = publish
        self._on_safe = on_safe
        self._sign_of_life = sign_of_life
        self._hostname = hostname
        self._extended = extended

    def use(self, transport: Transport, store: ResultStore | None) -> None:
        """Acknowledge on this connection from now on, and keep results there, if anywhere."""
        self._transport = transport
        self._store = store
        shared = transport.shared_connection
        self._one_transaction = (
            transport.capabilities.transactional_results
            and shared is not None
            and getattr(self._store, "path", None) == shared.path
        )

    def settle(self) -> None:
        """Settle all that wait. Raises ConnectionLost when the broker is gone: then those that were
        not acknowledged come again, and their results are safe."""
        jobs, self.pending = self.pending, []
        if not jobs:
            return
        if self._one_transaction and are_plain(jobs):
            with self._transport.transaction():
                self._store_results(jobs)
                self._acknowledge(jobs)
            self._on_safe(jobs)
        else:
            self._store_results(jobs)
            self._publish_follow_ups(jobs)
            self._on_safe(jobs)
            self._acknowledge(jobs)

    # -- 1. results ------------------------------------------------------------------------------------

    def _store_results(self, jobs: list[Job]) -> None:
        if self._store is None:
            return
        wanted = to_store(jobs)
        if not wanted:
            return
        try:
            self._store_safely(metas_of(wanted, self._hostname, self._extended))
        except CodecError:  # one of them cannot be written: find it, and say so in its place
            for job in wanted:
                self._store_alone(job)
        except EngineError as error:
            self._put_back(wanted, "the result could not be stored", error)

    def _store_alone(self, job: Job) -> None:
        try:
            self._store_safely(metas_of([job], self._hostname, self._extended))
        except CodecError as error:
            name, task_id = clean(job.message.task), clean(job.message.id)
            log.error(
                "Task %s[%s] ran, but its result cannot be written, and FAILURE is stored instead: %s",
                name,
                task_id,
                clean(str(error), 500),
                extra={"task": name, "task_id": task_id, "state": "FAILURE"},
            )
            job.outcome = failed_instead(job, error)
            try:
                self._store_safely(metas_of([job], self._hostname, self._extended))
            except EngineError as second:
                self._put_back([job], "the result could not be stored", second)
        except EngineError as error:
            self._put_back([job], "the result could not be stored", error)

    def _store_safely(self, metas: list[ResultMeta]) -> None:
        """Store, trying again while the store is out of reach. Raises its last error."""
        store, pause_s = self._store, _PAUSE_FIRST_S
        if store is None:
            return
        for attempt in range(_STORE_TRIES):
            try:
                store.store(metas)
            except (ConnectionLost, ConnectionFailed, TransportClosed) as error:
                if attempt + 1 == _STORE_TRIES:
                    raise
                log.warning("the result store is out of reach (%s): trying again in %g s", error, pause_s)
                self._sign_of_life()
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, _PAUSE_MAX_S)
            else:
                if attempt:
                    log.info("the result store is back")
                return

    def store_now(self, metas: list[ResultMeta]) -> None:
        """Store a state that is not an outcome (STARTED). A failure is logged: it holds nothing up."""
        if self._store is None:
            return
        try:
            self._store.store(metas)
        except EngineError as error:
            log.warning("could not store %s of task %s: %s", metas[0].status, metas[0].task_id, error)

    # -- 2. what the tasks published -------------------------------------------------------------------

    def _publish_follow_ups(self, jobs: list[Job]) -> None:
        if publish_nothing(jobs):
            return
        messages: list[Any] = []
        owners: list[Job] = []
        for job in jobs:
            if job.outcome.publish and job.finish != REQUEUE:
                messages += job.outcome.publish
                owners += [job] * len(job.outcome.publish)
        for owner, error in zip(owners, self._publish(messages), strict=True):
            if error is not None and owner.finish != REQUEUE:
                self._put_back([owner], "what it sent was not accepted by the broker", error)

    # -- 3. acknowledgement ----------------------------------------------------------------------------

    def _acknowledge(self, jobs: list[Job]) -> None:
        transport = self._transport
        done = deliveries_to(ACK, jobs)
        if done:
            transport.ack(done)
        if len(done) == len(jobs):
            return
        dropped = deliveries_to(DROP, jobs)
        if dropped:
            transport.nack(dropped, requeue=False)
        returned = deliveries_to(REQUEUE, jobs)
        if returned:
            transport.nack(returned, requeue=True)

    def _put_back(self, jobs: list[Job], why: str, error: Exception) -> None:
        """They go back to their queue, after a pause: what failed now will most likely fail at once again."""
        for job in jobs:
            job.finish = REQUEUE
        name = clean(jobs[0].message.task)
        log.error("%s (%d messages go back to their queue, the first is %s): %s", why, len(jobs), name, error)
        self._sign_of_life()
        time.sleep(_PAUSE_FIRST_S)
