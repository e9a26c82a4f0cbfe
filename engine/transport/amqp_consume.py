"""Consuming on AMQP: consumers, deliveries waiting, acknowledgements. One channel of one connection.

Delivery tags mean nothing outside the channel they came on. When the broker closes it, its deliveries are
void (the broker gives them to somebody): they are forgotten, the transport raises its epoch, and the
consumers are started on a new channel.
"""

from __future__ import annotations

import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from engine.codec import Delivery, encode_acks, encode_nacks
from engine.errors import QueueNotFound
from engine.model import QueueSpec
from engine.transport import amqp_methods as methods
from engine.transport.amqp_connection import AmqpConnection
from engine.transport.amqp_declare import Declarer, queue_state, refusal
from engine.transport.amqp_settle import Tags
from engine.transport.amqp_state import Channel, ChannelClosed, ConsumerCancelled

logger = logging.getLogger("engine.transport.amqp")

DELIVERIES = 1


class Consumer:
    """The consuming side of one connection."""

    def __init__(
        self,
        connection: AmqpConnection,
        declarer: Declarer,
        specs: dict[str, QueueSpec],
        on_void: Callable[[], int],
    ) -> None:
        """``on_void`` is called when all deliveries became void; it returns the next epoch."""
        self.connection = connection
        self.ready: deque[Delivery] = connection.protocol.deliveries
        self._channel: Channel | None = None
        self._on_void = on_void
        self._declarer = declarer
        self._specs = specs  #: what was declared, to declare it again should it be gone
        self._numbers = itertools.count(1)
        self._consumers: dict[str, str] = {}  #: consumer tag -> queue
        self._interrupted: list[str] = []  #: queues whose consumers the broker ended
        self._prefetch = 0
        self._tags = Tags()
        self._known: set[str] = set()

    # -- consumers -----------------------------------------------------------------------------------------

    def consume(self, queues: Sequence[str], prefetch: int) -> None:
        """Replace queues and prefetch. Raises QueueNotFound, and consumes then what it did before."""
        if list(self._consumers.values()) == list(queues) and self._prefetch == prefetch:
            return
        for queue in queues:
            self._find(queue)
        self._open_channel()
        self._interrupted.clear()
        before = list(self._consumers)
        # The broker counts a prefetch for each consumer, so they share what was asked for.
        self._prefetch = prefetch
        share = max(1, prefetch // len(queues)) if prefetch and queues else 0
        frames = [methods.basic_qos(DELIVERIES, min(share, 65535))]
        self._start(frames, queues)
        # Only now: an auto_delete queue is gone, with what waits in it, as soon as it has no consumer.
        self._stop(before)

    def _start(self, frames: list[bytes], queues: Sequence[str]) -> None:
        for queue in queues:
            tag = f"engine.{next(self._numbers)}"
            self.connection.protocol.decoder.name_consumer(tag, queue)
            self._consumers[tag] = queue
            frames.append(methods.basic_consume(DELIVERIES, queue, tag))
        self._open_channel()
        last = self.connection.request(DELIVERIES, *frames)[-1]
        if isinstance(last, ChannelClosed):
            self._consumers.clear()
            raise refusal(last, f"consuming {', '.join(map(repr, queues))}")

    def cancel(self) -> None:
        """Stop all consumers; what has come stays."""
        self._stop(list(self._consumers))

    def _stop(self, tags: Sequence[str]) -> None:
        if tags and DELIVERIES in self.connection.protocol.channels:
            frames = [methods.basic_cancel(DELIVERIES, tag) for tag in tags]
            self.connection.request(DELIVERIES, *frames)
        for tag in tags:
            self._consumers.pop(tag, None)

    def _find(self, queue: str) -> None:
        """See that the queue is there, on the control channel: consuming one that is not would void
        everything. One that this transport declared and that is gone since is declared again."""
        try:
            queue_state(self.connection, queue)
        except QueueNotFound:
            spec = self._specs.get(queue)
            if spec is None or spec.no_declare:
                raise QueueNotFound(
                    f"there is no queue {queue!r}: declare it first, or check its name"
                ) from None
            self._declarer.queue(self.connection, spec)
        self._known.add(queue)

    # -- what the broker tells -----------------------------------------------------------------------------

    def handle_events(self) -> None:
        """Follow up on what has come. Raises QueueNotFound when a consumed queue is gone for good."""
        for event in self.connection.protocol.events_received():
            if isinstance(event, ConsumerCancelled):
                queue = self._consumers.pop(event.consumer_tag, None)
                if queue is not None:
                    logger.warning(
                        "! the broker cancelled the consumer of queue %r: consuming it again", queue
                    )
                    self._interrupted.append(queue)
            elif self._channel is not None and event is self._channel.closed:
                self._void(event)
        if self._interrupted:
            queues, self._interrupted = [*self._consumers.values(), *self._interrupted], []
            self.consume(queues, self._prefetch)

    def _open_channel(self) -> None:
        if self._channel is not None and self._channel.closed is not None:
            self._void(self._channel.closed)
        if self._channel is None:
            self._channel = self.connection.channel(DELIVERIES)

    def _void(self, closed: ChannelClosed) -> None:
        """The channel is gone, its deliveries with it."""
        logger.warning(
            "! the broker closed the consuming channel: %d %s. It gives what was not acknowledged to "
            "somebody again; consuming goes on",
            closed.code,
            closed.text,
        )
        self._channel = None
        self._tags = Tags()
        self.ready.clear()
        self._interrupted += self._consumers.values()
        self._consumers.clear()
        self.connection.protocol.decoder.epoch = self._on_void()

    # -- deliveries ----------------------------------------------------------------------------------------

    def get(self, queue: str) -> Delivery | None:
        if queue not in self._known:
            self._find(queue)
        self._open_channel()
        reply = self.connection.get(DELIVERIES, queue)
        if isinstance(reply, Delivery):
            reply.queue = queue
            return reply
        if isinstance(reply, ChannelClosed):
            self._known.discard(queue)
            raise refusal(reply, f"taking from queue {queue!r}")
        return None

    def ack(self, tags: Iterable[int]) -> None:
        if acks := self._tags.settle(tags):
            self._send(encode_acks(DELIVERIES, acks))

    def nack(self, tags: Iterable[int], *, requeue: bool) -> None:
        if settled := self._tags.settle(tags):
            self._send(encode_nacks(DELIVERIES, [(tag, multiple, requeue) for tag, multiple in settled]))

    def _send(self, frames: bytes) -> None:
        self.connection.check()
        self.connection.protocol.send(frames)
        self.connection.flush()
