"""Results sent back as messages to the caller's own reply queue (celery/backends/rpc.py, WIRE W9).

Worker side: the meta goes to the default exchange with the task's ``reply_to`` as key and its id as
correlation id, transient unless asked otherwise. A reply whose queue is gone is dropped: its client is gone.
Client side: one queue a process, named by the app's oid, durable, auto-delete and expiring as Celery declares
it; it is consumed on a connection of its own. What came is kept here, since reading takes it off the broker.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Generator, Sequence

from engine.codec import Delivery, Message, json_decode, json_encode
from engine.errors import (
    AccessRefused,
    ConnectionFailed,
    ConnectionLost,
    ContentDisallowed,
    DecodeError,
    EngineError,
    MissingExtra,
    PublishUnknown,
    ResultError,
    TransportClosed,
    Unroutable,
)
from engine.model import QueueSpec
from engine.results.base import READY_STATES, ResultMeta, ResultStore
from engine.serialization import loads
from engine.transport.base import Transport

logger = logging.getLogger("engine.results.rpc")

_PREFETCH = 100
_KEPT = 10_000  #: results nobody has asked for yet; the oldest are dropped
_PAUSE_S = 0.5  #: between two tries to connect anew
_SLICE_S = 20.0  #: one receive; between two a lost connection is opened again


class RpcStore(ResultStore):
    """Results over the broker.

    Args:
        transport_factory: opens a connected transport; called once to publish and once to consume.
        oid: the name of this process's reply queue, what its messages carry as ``reply_to``.
        expires_s: the queue is deleted after being unused so long (``result_expires``); None: never.
        persistent: ``result_persistent``, replies survive a restart of the broker.
        accept: serializers or content types of replies that are read; None: JSON alone. Whoever asks for a
            result that came in another gets ContentDisallowed.
    """

    consuming = True

    def __init__(
        self,
        transport_factory: Callable[[], Transport],
        *,
        oid: str,
        expires_s: float | None = 86400,
        persistent: bool = False,
        accept: Collection[str] | None = None,
    ) -> None:
        self._open = transport_factory
        self.oid = oid
        self._expires_s = expires_s
        self._delivery_mode = 2 if persistent else 1
        self._publisher: Transport | None = None
        self._consumer: Transport | None = None
        self._declared = False
        self._pid = os.getpid()
        self._accept = accept
        self._kept: OrderedDict[str, ResultMeta | EngineError] = OrderedDict()  #: an error: it cannot be read

    def __repr__(self) -> str:
        return f"<RpcStore {self.oid}>"

    # -- worker side -----------------------------------------------------------------------------------

    def store(self, metas: Sequence[ResultMeta]) -> None:
        replies = [self._reply(meta) for meta in metas if meta.reply_to]
        if not replies:
            return
        # Not mandatory: Redis does not know a reply queue that Celery declared and that is empty.
        outcomes = self._publishing().publish(replies, mandatory=False)
        for reply, outcome in zip(replies, outcomes, strict=True):
            if isinstance(outcome, Unroutable):
                logger.debug("nobody waits for the result of %s any more", reply.correlation_id)
            elif isinstance(outcome, PublishUnknown):
                raise ConnectionLost(f"a result may not have been sent: {outcome}") from outcome
            elif outcome is not None:
                raise ResultError(
                    f"the result of {reply.correlation_id} was not sent: {outcome}"
                ) from outcome

    def _reply(self, meta: ResultMeta) -> Message:
        return Message(
            json_encode(meta.to_wire()),
            routing_key=meta.reply_to or "",
            correlation_id=meta.correlation_id or meta.task_id,
            delivery_mode=self._delivery_mode,
        )

    def _publishing(self) -> Transport:
        self._after_fork()
        publisher = self._publisher
        if publisher is None:
            publisher = self._publisher = self._open()
        elif not publisher.connected:
            publisher.reconnect()
        return publisher

    # -- client side -----------------------------------------------------------------------------------

    @property
    def queue(self) -> QueueSpec:
        """The reply queue, with the arguments Celery 5.7 gives it."""
        arguments = {"x-expires": int(self._expires_s * 1000)} if self._expires_s else {}
        return QueueSpec(self.oid, durable=True, auto_delete=True, arguments=arguments)

    def prepare(self, task_id: str) -> None:
        """Declare the reply queue, so that a worker may answer before anybody waits."""
        self._after_fork()
        if not self._declared:
            self._consuming()

    def get(self, task_id: str) -> ResultMeta | None:
        self._drain(0.0)
        return self._result_of(task_id)

    def get_many(self, task_ids: Sequence[str]) -> dict[str, ResultMeta]:
        self._drain(0.0)
        found = ((task_id, self._result_of(task_id)) for task_id in task_ids)
        return {task_id: meta for task_id, meta in found if meta is not None}

    def wait(self, task_id: str, timeout: float | None) -> ResultMeta | None:
        return next(iter(self.iter_ready([task_id], timeout)), None)

    def iter_ready(self, task_ids: Sequence[str], timeout: float | None) -> Generator[ResultMeta, None, None]:
        """Each as it comes; ends when all have come or after ``timeout`` seconds."""
        deadline_mono_s = None if timeout is None else time.monotonic() + timeout
        waited = dict.fromkeys(task_ids)
        wait_s = 0.0
        while True:
            self._drain(wait_s)
            for task_id in list(waited):
                meta = self._result_of(task_id)
                if meta is not None and meta.status in READY_STATES:
                    del waited[task_id]
                    yield meta
            wait_s = (
                _SLICE_S if deadline_mono_s is None else min(_SLICE_S, deadline_mono_s - time.monotonic())
            )
            if not waited or wait_s <= 0:
                return

    def _result_of(self, task_id: str) -> ResultMeta | None:
        kept = self._kept.get(task_id)
        if isinstance(kept, EngineError):
            raise kept
        return kept

    def forget(self, task_id: str) -> None:
        """Drop what is kept here; the broker keeps nothing."""
        self._kept.pop(task_id, None)

    def _drain(self, wait_s: float) -> None:
        """Take what has come; wait for the first at most so long. A lost connection is opened again."""
        self._after_fork()
        try:
            consumer = self._consuming()
            while deliveries := consumer.receive(wait_s):
                for delivery in deliveries:
                    self._keep(delivery)
                consumer.ack(deliveries)
                wait_s = 0.0
        except AccessRefused:
            raise
        except (ConnectionLost, ConnectionFailed, TransportClosed) as error:
            if not self._declared:
                raise
            if wait_s == 0.0:
                return
            logger.warning("the connection for results broke and is opened again: %s", error)
            time.sleep(min(_PAUSE_S, wait_s))

    def _consuming(self) -> Transport:
        consumer = self._consumer
        if consumer is None:
            consumer = self._open()
            try:
                self._start(consumer)
            except BaseException:
                consumer.close()
                raise
            self._consumer = consumer
        elif not consumer.connected:
            consumer.reconnect()
            self._start(consumer)
        return consumer

    def _start(self, consumer: Transport) -> None:
        consumer.declare(self.queue)
        consumer.consume([self.oid], _PREFETCH)
        self._declared = True

    def _keep(self, delivery: Delivery) -> None:
        asked_for = str(delivery.properties.get("correlation_id", ""))
        meta: ResultMeta | EngineError
        try:
            kind, encoding = delivery.content_type, delivery.content_encoding
            meta = ResultMeta.from_wire(
                loads(delivery.body, kind, encoding, self._accept, read_json=json_decode)
            )
        except (ContentDisallowed, MissingExtra) as error:
            logger.error("the result of task %s cannot be read: %s", asked_for, error)
            task_id, meta = asked_for, error
        except (DecodeError, TypeError, ValueError) as error:
            logger.error("a message in the reply queue is not a result: %s", error)
            return
        else:
            task_id = meta.task_id = meta.task_id or asked_for
        before = self._kept.get(task_id)
        if isinstance(before, ResultMeta) and before.status == "SUCCESS":
            return
        self._kept[task_id] = meta
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)

    # -- life ------------------------------------------------------------------------------------------

    def _after_fork(self) -> None:
        """Connections and results of the parent are not ours."""
        if self._pid == os.getpid():
            return
        for inherited in (self._publisher, self._consumer):
            if inherited is not None:
                inherited.abandon()
        self._publisher = self._consumer = None
        self._declared = False
        self._kept.clear()
        self._pid = os.getpid()

    def close(self) -> None:
        self._after_fork()
        publisher, consumer = self._publisher, self._consumer
        self._publisher = self._consumer = None
        self._declared = False
        for opened in (publisher, consumer):
            if opened is not None:
                with contextlib.suppress(EngineError):
                    opened.close()
