"""``memory://name``: a broker inside this process, for users' tests. Nothing outlives the process.

It keeps the whole contract but for crossing processes: two transports on the same name, in whichever threads,
see the same queues; a forked child starts with empty ones.
"""

from __future__ import annotations

import copy
import itertools
import logging
import os
import select
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from engine.codec import Delivery, Message
from engine.errors import TransportClosed
from engine.model import ExchangeSpec, QueueSpec, QueueState
from engine.transport.base import Capabilities, Transport, TransportOptions
from engine.transport.embedded import properties_of, too_large
from engine.transport.memory_broker import Broker, Entry, broker_named
from engine.transport.routing import EXCHANGE_TYPES
from engine.transport.url import BrokerURL

logger = logging.getLogger(__name__)

_owners = itertools.count(1)


class MemoryTransport(Transport):
    """A consumer or publisher of one in-process broker."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        name="memory",
        exchanges=EXCHANGE_TYPES,
        counts_deliveries=True,
        survives_restart=False,
        crosses_processes=False,
        prefetch=False,
    )

    def __init__(self, url: str, options: TransportOptions | None = None) -> None:
        super().__init__(url, options)
        self._name = BrokerURL.parse(url).host or ""
        self._broker: Broker | None = None
        self._owner = 0
        self._bell = -1
        self._queues: tuple[str, ...] = ()
        self._prefetch = 0
        self._consuming = False
        self._prefetched: set[int] = set()
        self._warned: set[str] = set()

    # -- life ------------------------------------------------------------------------------------------

    def connect(self) -> None:
        if self.connected:
            return
        self._broker = broker_named(self._name)
        self._pid = os.getpid()
        self._owner = next(_owners)
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._prefetched.clear()
        self.epoch += 1
        if self._consuming:
            self._broker.subscribe(self._owner, self._queues)

    def close(self) -> None:
        self.abandon()
        self._consuming = False

    def abandon(self) -> None:
        """The broker, being in this process, sees at once that the consumer is gone."""
        broker, self._broker = self._broker, None
        bell, self._bell = self._bell, -1
        if broker is not None and self._pid == os.getpid():
            broker.stop_waiting(bell)
            broker.leave(self._owner)
        if bell >= 0:
            os.close(bell)

    @property
    def connected(self) -> bool:
        return self._broker is not None and self._pid == os.getpid()

    def _open(self) -> Broker:
        self._check_owner()
        if self._broker is None:
            raise TransportClosed(f"memory://{self._name} is closed: connect() first")
        return self._broker

    # -- topology --------------------------------------------------------------------------------------

    def declare(self, queue: QueueSpec) -> QueueState:
        arguments = self._open().declare(queue)
        if dict(arguments) != dict(queue.arguments) and queue.name not in self._warned:
            self._warned.add(queue.name)
            logger.warning(
                "queue %r exists with arguments %r and is used as it is; declared were %r",
                queue.name,
                dict(arguments),
                dict(queue.arguments),
            )
        return self.queue_state(queue.name)

    def declare_exchange(self, exchange: ExchangeSpec) -> None:
        self._open().declare_exchange(exchange)

    def delete_queue(self, name: str) -> int:
        return self._open().delete_queue(name)

    def purge(self, name: str) -> int:
        return self._open().purge(name)

    def queue_state(self, name: str) -> QueueState:
        return self._open().state(name)

    # -- publish ---------------------------------------------------------------------------------------

    def publish(
        self,
        messages: Sequence[Message],
        *,
        confirm: bool = True,
        mandatory: bool = True,
        timeout: float | None = None,
    ) -> list[Exception | None]:
        broker = self._open()
        limit = self.options.max_message_size
        return [too_large(message, limit) or broker.publish(message, mandatory) for message in messages]

    # -- consume ---------------------------------------------------------------------------------------

    def consume(self, queues: Sequence[str], prefetch: int) -> None:
        self._open().subscribe(self._owner, queues)
        self._queues = tuple(queues)
        self._prefetch = prefetch
        self._consuming = True

    def cancel(self) -> None:
        self._consuming = False
        self._open().subscribe(self._owner, ())

    def receive(self, timeout: float, limit: int = 0) -> list[Delivery]:
        broker = self._open()
        deadline_mono_s = time.monotonic() + timeout
        while True:
            room = self._room(limit)
            if room:
                claimed = broker.claim(self._owner, self._queues, room)
                if claimed:
                    self._prefetched.update(tag for tag, _ in claimed)
                    return [self._delivery(tag, entry) for tag, entry in claimed]
            due_s = broker.wait_for(self._queues, self._bell) if room else None
            left_s = deadline_mono_s - time.monotonic()
            if left_s <= 0 or self._woken(left_s if due_s is None else min(left_s, due_s)):
                broker.stop_waiting(self._bell)
                return []

    def _room(self, limit: int) -> int:
        if not self._consuming:
            return 0
        room = max(0, self._prefetch - len(self._prefetched)) if self._prefetch else 1_000
        return min(room, limit) if limit else room

    def _woken(self, timeout: float) -> bool:
        """Sleep until the bell rings or the time is up; True when one of `wake_fds` is readable."""
        poll = select.poll()
        for fd in (self._bell, *self.wake_fds):
            poll.register(fd, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(timeout * 1000)}
        if self._bell in ready:
            os.eventfd_read(self._bell)
        return bool(ready - {self._bell})

    def get(self, queue: str) -> Delivery | None:
        broker = self._open()
        broker.state(queue)
        for tag, entry in broker.claim(self._owner, (queue,), 1):
            return self._delivery(tag, entry)
        return None

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        broker = self._open()
        broker.ack(self._owner, self._settled(deliveries))

    def nack(self, deliveries: Sequence[Delivery], *, requeue: bool) -> None:
        broker = self._open()
        tags = self._settled(deliveries)
        if requeue:
            broker.requeue(self._owner, tags)
        else:
            broker.reject(self._owner, tags)

    def park(self, delivery: Delivery, due_at: float) -> None:
        broker = self._open()
        for tag in self._settled([delivery]):
            broker.park(self._owner, tag, due_at)

    def _settled(self, deliveries: Sequence[Delivery]) -> list[int]:
        """The tags of this epoch; they no longer count as prefetched."""
        tags = [delivery.tag for delivery in deliveries if delivery.epoch == self.epoch]
        self._prefetched.difference_update(tags)
        return tags

    def _delivery(self, tag: int, entry: Entry) -> Delivery:
        message = entry.message
        headers: Mapping[str, Any] = message.headers or {}
        return Delivery(
            message.body,
            tag=tag,
            epoch=self.epoch,
            queue=entry.queue,
            exchange=message.exchange,
            routing_key=message.routing_key,
            redelivered=entry.deliveries > 0,
            delivery_count=entry.deliveries,
            content_type=message.content_type,
            content_encoding=message.content_encoding,
            headers=copy.deepcopy(dict(headers)),
            properties=properties_of(message),
        )
