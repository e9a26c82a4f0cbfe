"""The broker behind ``memory://``: queues of this process, shared by its threads.

Every public method takes the lock once and does no I/O but ringing a waiting consumer's eventfd. What a
forked child inherits is forgotten there: its broker starts empty.
"""

from __future__ import annotations

import heapq
import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.codec import Message
from engine.errors import QueueNotFound
from engine.model import ExchangeSpec, QueueSpec, QueueState
from engine.transport.embedded import (
    clamp_priority,
    dead_letter_address,
    dead_letter_headers,
    due_ms_of,
    expires_ms_of,
    queue_not_found,
    time_to_live_of,
    unroutable,
)
from engine.transport.routing import Binding, RoutingTable


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class Entry:
    """A message in a queue, or held by a consumer."""

    order: int
    queue: str
    message: Message
    priority: int
    since_ms: int
    expires_ms: int | None = None
    deliveries: int = 0


@dataclass(slots=True)
class MemoryQueue:
    """One queue. Heaps: ready by (urgency, order), delayed by (due, order)."""

    name: str
    arguments: Mapping[str, Any]
    ready: list[tuple[int, int, Entry]] = field(default_factory=list)
    delayed: list[tuple[int, int, Entry]] = field(default_factory=list)
    waiting: deque[int] = field(default_factory=deque)  #: eventfds of idle consumers
    consumers: set[int] = field(default_factory=set)

    def put(self, entry: Entry, due_ms: int | None = None) -> None:
        if due_ms is None:
            heapq.heappush(self.ready, (-entry.priority, entry.order, entry))
        else:
            heapq.heappush(self.delayed, (due_ms, entry.order, entry))
        self.ring()

    def ring(self) -> None:
        if self.waiting:
            os.eventfd_write(self.waiting.popleft(), 1)


class Broker:
    """All queues of one ``memory://name``."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._lock = threading.Lock()
        self._table = RoutingTable()
        self._queues: dict[str, MemoryQueue] = {}
        self._held: dict[int, dict[int, Entry]] = {}  # owner -> tag -> entry
        self._sequence = 0

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence

    def _queue(self, name: str) -> MemoryQueue:
        try:
            return self._queues[name]
        except KeyError:
            raise queue_not_found(name, f"memory://{self.name}") from None

    # -- topology --------------------------------------------------------------------------------------

    def declare(self, spec: QueueSpec) -> Mapping[str, Any]:
        """Declare queue, exchanges and bindings; the arguments the queue has."""
        with self._lock:
            for binding in spec.bindings:
                self._declare_exchange(binding.exchange)
            queue = self._queues.get(spec.name)
            if queue is None:
                queue = self._queues[spec.name] = MemoryQueue(spec.name, dict(spec.arguments))
                self._table.add_queue(spec.name)
            for binding in spec.bindings:
                self._table.bind(
                    binding.exchange.name, Binding(spec.name, binding.routing_key, dict(binding.arguments))
                )
            return queue.arguments

    def declare_exchange(self, spec: ExchangeSpec) -> None:
        with self._lock:
            self._declare_exchange(spec)

    def _declare_exchange(self, spec: ExchangeSpec) -> None:
        if spec.name:
            self._table.add_exchange(spec.name, spec.type)

    def delete_queue(self, name: str) -> int:
        with self._lock:
            queue = self._queues.pop(name, None)
            if queue is None:
                return 0
            self._table.remove_queue(name)
            return len(queue.ready) + len(queue.delayed)

    def purge(self, name: str) -> int:
        with self._lock:
            queue = self._queue(name)
            self._settle_clock(queue)
            dropped = len(queue.ready)
            queue.ready.clear()
            return dropped

    def state(self, name: str) -> QueueState:
        with self._lock:
            queue = self._queue(name)
            self._settle_clock(queue)
            oldest = min((entry.since_ms for _, _, entry in queue.ready), default=None)
            return QueueState(
                name,
                ready=len(queue.ready),
                unacked=sum(entry.queue == name for held in self._held.values() for entry in held.values()),
                delayed=len(queue.delayed),
                consumers=len(queue.consumers),
                oldest_age_s=None if oldest is None else max(0, now_ms() - oldest) / 1000,
            )

    # -- publish ---------------------------------------------------------------------------------------

    def publish(self, message: Message, mandatory: bool) -> Exception | None:
        with self._lock:
            try:
                queues = self._table.route(message.exchange, message.routing_key, message.headers)
            except QueueNotFound as error:
                return error
            for name in queues:
                self._enqueue(self._queues[name], message)
            return unroutable(message) if mandatory and not queues else None

    def _enqueue(self, queue: MemoryQueue, message: Message) -> None:
        moment = now_ms()
        due_ms = due_ms_of(message.due_at, moment)
        start_ms = due_ms or moment
        entry = Entry(
            order=self._next(),
            queue=queue.name,
            message=message,
            priority=clamp_priority(message.priority),
            since_ms=start_ms,
            expires_ms=expires_ms_of(time_to_live_of(message), queue.arguments, start_ms),
        )
        queue.put(entry, due_ms)

    # -- consume ---------------------------------------------------------------------------------------

    def subscribe(self, owner: int, names: Sequence[str]) -> None:
        """Count `owner` as a consumer of these queues and of no others."""
        with self._lock:
            queues = [self._queue(name) for name in names]
            for queue in self._queues.values():
                queue.consumers.discard(owner)
            for queue in queues:
                queue.consumers.add(owner)

    def claim(self, owner: int, names: Iterable[str], limit: int) -> list[tuple[int, Entry]]:
        """Up to `limit` entries with a tag each, the most urgent and oldest first."""
        taken: list[tuple[int, Entry]] = []
        with self._lock:
            queues = [self._queues[name] for name in names if name in self._queues]
            for queue in queues:
                self._settle_clock(queue)
            held = self._held.setdefault(owner, {})
            while len(taken) < limit:
                candidates = [queue for queue in queues if queue.ready]
                if not candidates:
                    break
                _, _, entry = heapq.heappop(min(candidates, key=lambda queue: queue.ready[0][:2]).ready)
                tag = self._next()
                held[tag] = entry
                taken.append((tag, entry))
        return taken

    def wait_for(self, names: Iterable[str], bell: int) -> float | None:
        """Ring `bell` at the next message of these queues; the seconds until one falls due, if any waits.

        0 when something is there already."""
        with self._lock:
            queues = [self._queues[name] for name in names if name in self._queues]
            for queue in queues:
                self._settle_clock(queue)
            if any(queue.ready for queue in queues):
                return 0.0
            for queue in queues:
                if bell not in queue.waiting:
                    queue.waiting.append(bell)
            due = min((queue.delayed[0][0] for queue in queues if queue.delayed), default=None)
            return None if due is None else max(0.001, (due - now_ms()) / 1000)

    def stop_waiting(self, bell: int) -> None:
        with self._lock:
            for queue in self._queues.values():
                if bell in queue.waiting:
                    queue.waiting.remove(bell)
                elif queue.ready:
                    queue.ring()  # it may have been rung for a message that it will not take

    def ack(self, owner: int, tags: Iterable[int]) -> None:
        with self._lock:
            held = self._held.get(owner, {})
            for tag in tags:
                held.pop(tag, None)

    def requeue(self, owner: int, tags: Iterable[int]) -> None:
        """Back to their old places, one delivery older."""
        with self._lock:
            held = self._held.get(owner, {})
            self._give_back(entry for entry in (held.pop(tag, None) for tag in tags) if entry is not None)

    def reject(self, owner: int, tags: Iterable[int]) -> None:
        with self._lock:
            held = self._held.get(owner, {})
            for entry in (held.pop(tag, None) for tag in tags):
                if entry is not None:
                    self._dead_letter(entry, "rejected")

    def park(self, owner: int, tag: int, due_at: float) -> None:
        with self._lock:
            entry = self._held.get(owner, {}).pop(tag, None)
            queue = entry and self._queues.get(entry.queue)
            if entry and queue:
                queue.put(entry, due_ms_of(due_at, now_ms()))

    def leave(self, owner: int) -> None:
        """The consumer is gone: what it held goes back."""
        with self._lock:
            for queue in self._queues.values():
                queue.consumers.discard(owner)
            self._give_back(self._held.pop(owner, {}).values())

    def _give_back(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            entry.deliveries += 1
            queue = self._queues.get(entry.queue)
            if queue is not None:
                queue.put(entry)

    # -- the clock -------------------------------------------------------------------------------------

    def _settle_clock(self, queue: MemoryQueue) -> None:
        """What has fallen due becomes ready; what has expired dies. Expired messages are looked for at the
        head only, as RabbitMQ does."""
        moment = now_ms()
        while queue.delayed and queue.delayed[0][0] <= moment:
            queue.put(heapq.heappop(queue.delayed)[2])
        while queue.ready:
            expires_ms = queue.ready[0][2].expires_ms
            if expires_ms is None or expires_ms > moment:
                return
            self._dead_letter(heapq.heappop(queue.ready)[2], "expired")

    def _dead_letter(self, entry: Entry, reason: str) -> None:
        queue = self._queues.get(entry.queue)
        address = queue and dead_letter_address(queue.arguments, entry.message.routing_key)
        if not address:
            return
        dead = entry.message
        headers = dead_letter_headers(dead.headers or {}, entry.queue, dead.exchange, reason)
        try:
            names = self._table.route(*address, headers)
        except QueueNotFound:
            return
        letter = Message(
            dead.body,
            content_type=dead.content_type,
            content_encoding=dead.content_encoding,
            headers=headers,
            exchange=address[0],
            routing_key=address[1],
            delivery_mode=dead.delivery_mode,
            priority=dead.priority,
            correlation_id=dead.correlation_id,
            reply_to=dead.reply_to,
            message_id=dead.message_id,
            timestamp=dead.timestamp,
            type=dead.type,
            user_id=dead.user_id,
            app_id=dead.app_id,
        )
        for name in names:
            if name != entry.queue:  # a queue that is its own dead-letter queue would turn for ever
                self._enqueue(self._queues[name], letter)


_brokers: dict[str, Broker] = {}
_brokers_lock = threading.Lock()


def broker_named(name: str) -> Broker:
    """This process's broker of that name; made at the first call."""
    with _brokers_lock:
        return _brokers.setdefault(name, Broker(name))


def _forget_inherited() -> None:
    global _brokers_lock
    _brokers_lock = threading.Lock()
    _brokers.clear()


os.register_at_fork(after_in_child=_forget_inherited)
