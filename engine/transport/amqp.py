"""``amqp://`` and ``amqps://``: RabbitMQ over two connections, one that consumes and one that publishes.

RabbitMQ in alarm stops reading a connection that published, and an acknowledgement sent on it would wait
until the alarm is over. The first connection takes the role it is first asked for, so a process that only
publishes, or only consumes, has one. Topology goes over either.

A lost publishing connection is opened anew without a word; a lost consuming one raises ConnectionLost, since
its deliveries are void: ``reconnect``.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import select
import time
from collections.abc import Callable, Sequence
from typing import ClassVar

from engine import forks
from engine.codec import Delivery, Message, take_without
from engine.errors import ConfigurationError, ConnectionFailed, ConnectionLost, TransportClosed
from engine.model import ExchangeSpec, QueueSpec, QueueState
from engine.transport import amqp_keepalive
from engine.transport import amqp_methods as methods
from engine.transport.amqp_confirms import PENDING
from engine.transport.amqp_connection import AmqpConnection
from engine.transport.amqp_consume import Consumer
from engine.transport.amqp_declare import CONTROL, Declarer, count_of, queue_state
from engine.transport.amqp_delay import DUE_BYTES, HOLD_S, arrived, due_of, expired
from engine.transport.amqp_endpoint import parse_endpoint
from engine.transport.amqp_protocol import AmqpProtocol
from engine.transport.amqp_publish import Publisher
from engine.transport.base import Capabilities, Transport, TransportOptions
from engine.transport.url import BrokerURL

#: Parking an early delivery again may wait this long; after that it is held here until it is due.
PARK_TIMEOUT_S = 5.0


class AmqpTransport(Transport):
    """One process's way to one RabbitMQ."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        name="amqp", exchanges=frozenset({"direct", "topic", "fanout", "headers"})
    )

    def __init__(self, url: str, options: TransportOptions | None = None) -> None:
        super().__init__(url, options)
        self.endpoint = parse_endpoint(url, self.options)
        self._open = False
        self._spare: AmqpConnection | None = None
        self._consumer: Consumer | None = None
        self._publisher: Publisher | None = None
        self._declarer = Declarer()
        self._specs: dict[str, QueueSpec] = {}
        self._wanted: tuple[tuple[str, ...], int] | None = None  #: what reconnect consumes again
        self._guarded = False
        self._held: list[tuple[float, int, Delivery]] = []  #: a heap of deliveries that are due in a moment
        self._order = itertools.count()

    # -- life ----------------------------------------------------------------------------------------------

    @classmethod
    def preload(cls, url: str, options: TransportOptions) -> None:
        with contextlib.suppress(ConfigurationError):
            BrokerURL.parse(url)
        if options.ssl or "amqps" in url or "ssl" in url:
            import encodings.idna  # noqa: F401 - the ssl module takes host names through it

            from engine.transport import tls_layer  # noqa: F401 - and OpenSSL with it

    def connect(self) -> None:
        if self.connected:
            return
        self._drop(None)
        self._pid = os.getpid()
        self.epoch += 1
        try:
            self._spare = self._new_connection()
        except BaseException:
            self.epoch -= 1
            raise
        self._open = True
        if self._wanted is not None:
            self._consuming().consume(*self._wanted)

    def close(self) -> None:
        self._wanted = None
        if self._pid == os.getpid():
            for connection in self._connections():
                connection.close()
        self._drop(None)
        self._open = False

    def abandon(self) -> None:
        self._drop(None)
        self._open = False

    @property
    def connected(self) -> bool:
        if not self._open or self._pid != os.getpid():
            return False
        first = self._consumer.connection if self._consumer is not None else self._spare
        if first is None and self._publisher is not None:
            first = self._publisher.connection
        return first is not None and first.alive

    def _new_connection(self) -> AmqpConnection:
        protocol = AmqpProtocol(
            self.endpoint, max_message_size=self.options.max_message_size, epoch=self.epoch
        )
        connection = AmqpConnection(self.endpoint, protocol)
        connection.open()
        return connection

    def _connections(self) -> list[AmqpConnection]:
        users = [user.connection for user in (self._consumer, self._publisher) if user is not None]
        return users + ([self._spare] if self._spare is not None else [])

    def _drop(self, only: AmqpConnection | None) -> None:
        """Close one connection's descriptor, or all, without a word."""
        for connection in [only] if only is not None else self._connections():
            connection.abandon()
            if self._spare is connection:
                self._spare = None
            if self._publisher is not None and self._publisher.connection is connection:
                self._publisher = None
            if self._consumer is not None and self._consumer.connection is connection:
                self._consumer = None
                self._held.clear()

    def _check(self) -> None:
        self._check_owner()
        if not self._open:
            raise TransportClosed(f"the connection to {self.endpoint} is closed: connect() first")

    def _take_spare(self) -> AmqpConnection:
        spare, self._spare = self._spare, None
        return spare if spare is not None else self._new_connection()

    def _consuming(self) -> Consumer:
        self._check()
        if self._consumer is None:
            self._consumer = Consumer(self._take_spare(), self._declarer, self._specs, self._on_void)
        self._consumer.connection.check()
        self._consumer.handle_events()
        return self._consumer

    def _on_void(self) -> int:
        """The deliveries given out so far mean nothing any more."""
        self._held.clear()
        self.epoch += 1
        return self.epoch

    def _publishing(self) -> Publisher:
        """The publisher, its connection opened anew if it broke while nobody used it."""
        self._check()
        if self._publisher is not None:
            try:
                self._publisher.connection.read()
                self._publisher.connection.check()
            except ConnectionLost:
                self._drop(self._publisher.connection)
        if self._publisher is None:
            try:
                self._publisher = Publisher(self._take_spare(), self._declarer, self.options)
            except ConnectionFailed as error:
                raise ConnectionLost(f"nothing was published: {error}") from error
        return self._publisher

    def _control(self) -> AmqpConnection:
        """A connection for topology."""
        self._check()
        if self._consumer is not None:
            return self._consumer.connection
        if self._spare is not None:
            return self._spare
        return self._publishing().connection

    # -- topology ------------------------------------------------------------------------------------------

    def declare(self, queue: QueueSpec) -> QueueState:
        # An exclusive queue belongs to the connection that declares it, which must be the one that consumes
        # it.
        connection = self._consuming().connection if queue.exclusive else self._control()
        state = self._declarer.queue(connection, queue)
        self._specs[queue.name] = queue
        return state

    def declare_exchange(self, exchange: ExchangeSpec) -> None:
        self._declarer.exchange(self._control(), exchange)

    def delete_queue(self, name: str) -> int:
        self._specs.pop(name, None)
        return count_of(self._control(), methods.queue_delete(CONTROL, name), f"deleting queue {name!r}")

    def purge(self, name: str) -> int:
        return count_of(self._control(), methods.queue_purge(CONTROL, name), f"purging queue {name!r}")

    def queue_state(self, name: str) -> QueueState:
        return queue_state(self._control(), name)

    # -- publish -------------------------------------------------------------------------------------------

    def publish(
        self,
        messages: Sequence[Message],
        *,
        confirm: bool = True,
        mandatory: bool = True,
        timeout: float | None = None,
    ) -> list[Exception | None]:
        if not messages:
            self._check()
            return []
        publisher = self._publishing()
        try:
            return publisher.publish(messages, confirm=confirm, mandatory=mandatory, timeout_s=timeout)
        finally:
            self._guard_again()

    def publish_begin(
        self, messages: Sequence[Message], *, confirm: bool, mandatory: bool, timeout: float | None
    ) -> Callable[[], list[Exception | None]]:
        if not messages:
            return list
        publisher = self._publishing()
        try:
            flight = publisher.begin(messages, confirm=confirm, mandatory=mandatory, timeout_s=timeout)
        finally:
            self._guard_again()
        return lambda: publisher.finish(flight)

    def publish_one(
        self, message: Message, confirm: bool, mandatory: bool, timeout: float | None
    ) -> Exception | None:
        publisher = self._publisher
        if publisher is not None and not self._guarded and self._pid == forks.pid:
            outcome = publisher.publish_one(message, confirm, mandatory, timeout)
            if outcome is not PENDING:
                return outcome
        return self.publish((message,), confirm=confirm, mandatory=mandatory, timeout=timeout)[0]

    # -- consume -------------------------------------------------------------------------------------------

    def consume(self, queues: Sequence[str], prefetch: int) -> None:
        self._consuming().consume(queues, prefetch)
        self._wanted = (tuple(queues), prefetch)

    def cancel(self) -> None:
        self._wanted = None
        self._check()
        if self._consumer is not None:
            self._consuming().cancel()

    def receive(self, timeout: float, limit: int = 0) -> list[Delivery]:
        consumer = self._consuming()
        deadline_mono_s = time.monotonic() + timeout
        first = True
        while True:
            if taken := self._take(consumer, limit):
                return taken
            remaining_s = deadline_mono_s - time.monotonic()
            if remaining_s <= 0 and not first:
                return []
            woken = self._wait(consumer.connection, max(0.0, remaining_s))
            consumer.handle_events()
            if woken:
                return []
            first = False

    def _take(self, consumer: Consumer, limit: int) -> list[Delivery]:
        """What may be given out now, oldest first; early ones are put away."""
        taken: list[Delivery] = []
        now = time.time()
        while self._held and self._held[0][0] <= now and not (limit and len(taken) >= limit):
            taken.append(self._release(heapq.heappop(self._held)[2]))
        ready = consumer.ready
        take_without(ready, taken, limit, DUE_BYTES)
        early: list[tuple[Delivery, float]] = []
        while ready and not (limit and len(taken) >= limit):
            delivery = ready.popleft()
            due_at = due_of(delivery)
            if due_at is None:
                taken.append(delivery)
            elif expired(delivery, now):
                consumer.nack([delivery.tag], requeue=False)
            elif due_at <= now:
                taken.append(self._release(delivery))
            else:
                early.append((delivery, due_at))
        if early:
            self._put_away(early, now)
        if taken:
            self.body_bytes = len(taken[-1].body)
        return taken

    def _release(self, delivery: Delivery) -> Delivery:
        arrived(delivery)
        return delivery

    def _put_away(self, early: list[tuple[Delivery, float]], now: float) -> None:
        """Park what came early for the rest of its time, together; what can't be parked is held here."""
        far = [(delivery, due_at) for delivery, due_at in early if due_at - now > HOLD_S]
        near = [(delivery, due_at) for delivery, due_at in early if due_at - now <= HOLD_S]
        if far:
            try:
                outcomes = self.publish([_again(*each) for each in far], timeout=PARK_TIMEOUT_S)
            except ConnectionLost as error:
                outcomes = [error] * len(far)
            self.ack(
                [delivery for (delivery, _), outcome in zip(far, outcomes, strict=True) if outcome is None]
            )
            near += [each for each, outcome in zip(far, outcomes, strict=True) if outcome is not None]
        for delivery, due_at in near:
            heapq.heappush(self._held, (due_at, next(self._order), delivery))

    def _wait(self, consuming: AmqpConnection, timeout_s: float) -> bool:
        """Sleep until bytes come, something falls due or the time is up; True when a wake_fd is readable."""
        now = time.monotonic()
        wait_s = min(timeout_s, consuming.beat(now))
        if self._held:
            wait_s = min(wait_s, max(0.0, self._held[0][0] - time.time()))
        publishing = self._publisher.connection if self._publisher is not None else None
        poll = select.poll()
        poll.register(consuming.fd, select.POLLIN if consuming.drained else select.POLLIN | select.POLLOUT)
        if publishing is not None:
            with contextlib.suppress(ConnectionLost):
                wait_s = min(wait_s, publishing.beat(now))
            if publishing.fd >= 0:
                poll.register(publishing.fd, select.POLLIN)
        for fd in self.wake_fds:
            poll.register(fd, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(wait_s * 1000)}
        if publishing is not None and publishing.fd in ready:
            with contextlib.suppress(ConnectionLost):  # the next publish opens another
                publishing.read()
        if consuming.fd in ready:
            consuming.flush()
            consuming.read()
        return any(fd in ready for fd in self.wake_fds)

    def get(self, queue: str) -> Delivery | None:
        return self._consuming().get(queue)

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        consumer = self._consuming()
        epoch = self.epoch
        consumer.ack(delivery.tag for delivery in deliveries if delivery.epoch == epoch)

    def nack(self, deliveries: Sequence[Delivery], *, requeue: bool) -> None:
        consumer = self._consuming()
        epoch = self.epoch
        consumer.nack((delivery.tag for delivery in deliveries if delivery.epoch == epoch), requeue=requeue)

    def park(self, delivery: Delivery, due_at: float) -> None:
        if delivery.epoch != self.epoch:
            return  # the broker has given it to somebody again
        [outcome] = self.publish([_again(delivery, due_at)])
        if outcome is not None:
            raise outcome
        self.ack([delivery])

    # -- while user code runs ------------------------------------------------------------------------------

    def guard(self) -> None:
        self._guarded = True
        consumer = self._consumer
        # a child has this one connection, and it stays guarded over many tasks: a look is enough
        if consumer is None or self._publisher is not None or not consumer.connection.guarded:
            self._guard_again()

    def _guard_again(self) -> None:
        """A write disarms its connection; user code that made it runs on."""
        if self._guarded:
            for connection in self._connections():
                connection.guard()

    @property
    def refresh_every_s(self) -> float | None:
        """Over TLS heartbeats are made ahead, and have to be made again before they are used up."""
        return amqp_keepalive.COVER_S / 4 if self.endpoint.tls is not None else None

    def unguard(self) -> None:
        if not self._guarded:
            return
        self._guarded = False
        for connection in self._connections():
            connection.unguard()


def _again(delivery: Delivery, due_at: float) -> Message:
    """The delivery as a message for the queue it came from, and for no other."""
    message = delivery.to_message()
    message.exchange, message.routing_key = "", delivery.queue or delivery.routing_key
    message.due_at = due_at
    return message
