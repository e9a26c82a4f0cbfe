"""Queues, exchanges and bindings in a Redis database: declared in kombu's tables, and looked up to route.

Rules: what was looked up is believed for a few seconds; what was not found is looked up each time. A queue
exists when it was declared by us, when one of its lists exists, or when an exchange of its own name has
bindings (which is how Celery declares). An exchange whose type nobody told is direct or topic, by what its
bindings say.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.codec import Delivery
from engine.errors import ConfigurationError, DeclareConflict, QueueNotFound
from engine.model import ExchangeSpec, QueueSpec
from engine.transport import redis_scripts as scripts
from engine.transport.redis_layout import Layout, binding_ttl_ms, queue_expires_ms
from engine.transport.redis_session import RedisSession
from engine.transport.redis_wire import pack

#: how long a binding table or a queue that was seen is taken to be there
BELIEVED_S = 5.0


@dataclass(frozen=True, slots=True)
class QueueRecord:
    """What is known of a declared queue."""

    arguments: Mapping[str, Any] = field(default_factory=dict)
    bindings: tuple[tuple[str, str, str, str], ...] = ()  #: exchange, its type, routing key, table member

    @classmethod
    def of(cls, spec: QueueSpec, layout: Layout) -> QueueRecord:
        bindings = tuple(
            (
                binding.exchange.name,
                binding.exchange.type,
                binding.routing_key,
                layout.member(binding, spec.name),
            )
            for binding in spec.bindings
            if binding.exchange.name
        )
        return cls(dict(spec.arguments), bindings)

    @classmethod
    def load(cls, text: bytes) -> QueueRecord:
        stored = json.loads(text)
        return cls(stored.get("arguments") or {}, tuple(tuple(row) for row in stored.get("bindings") or ()))

    def dump(self) -> str:
        return json.dumps({"arguments": dict(self.arguments), "bindings": self.bindings}, default=str)

    @property
    def expires_ms(self) -> int | None:
        return queue_expires_ms(self.arguments)


class RedisRouter:
    """One transport's view of the topology."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.records: dict[str, QueueRecord] = {}
        self._types: dict[str, str] = {}
        self._seen: dict[str, float] = {}
        self._tables: dict[str, tuple[float, list[bytes]]] = {}

    # -- declaring -------------------------------------------------------------------------------------

    def declare(self, session: RedisSession, spec: QueueSpec) -> None:
        if '"' in spec.name or self.layout.sep in spec.name:
            raise ConfigurationError(
                f"a queue name must not contain quotes or kombu's separator: {spec.name!r}"
            )
        for binding in spec.bindings:
            self.declare_exchange(session, binding.exchange)
        record = QueueRecord.of(spec, self.layout)
        before = session.command("HGET", self.layout.queues, spec.name)
        if before is not None:
            known = QueueRecord.load(before)
            record = QueueRecord(record.arguments, tuple(dict.fromkeys((*known.bindings, *record.bindings))))
        if before is None or before.decode() != record.dump():
            session.command("HSET", self.layout.queues, spec.name, record.dump())
        self.records[spec.name] = record
        self.use(session, [spec.name])
        for exchange, _, _, member in record.bindings:
            self._bind(session, exchange, member, record.expires_ms)
            self._tables.pop(exchange, None)
        self._seen[spec.name] = time.monotonic()

    def use(self, session: RedisSession, queues: Sequence[str]) -> float | None:
        """Those with x-expires are in use now; the seconds until that must be said again, None: never."""
        lives = {queue: self.records.get(queue, QueueRecord()).expires_ms for queue in queues}
        expiring = {queue: life for queue, life in lives.items() if life is not None}
        if not expiring:
            return None
        words = [word for pair in expiring.items() for word in pair]
        session.run(scripts.USE_QUEUES, [self.layout.expiring], words)
        return min(expiring.values()) / 3000

    def _bind(self, session: RedisSession, exchange: str, member: str, expires_ms: int | None) -> None:
        table = self.layout.bindings(exchange)
        if expires_ms is None:
            tables = (table, self.layout.permanent_bindings(exchange))
            present = session.ask(*(pack("SISMEMBER", key, member) for key in tables))
            for key, known in zip(tables, present, strict=True):
                if known != 1:  # a full server refuses to add, and has no need to
                    session.command("SADD", key, member)
            return
        life_ms = binding_ttl_ms(expires_ms)
        session.run(
            scripts.BIND_EXPIRING, [table, self.layout.binding_deadlines], [member, exchange, life_ms]
        )

    def declare_exchange(self, session: RedisSession, spec: ExchangeSpec) -> None:
        """Raises DeclareConflict when it is known with another type."""
        if not spec.name or self._types.get(spec.name) == spec.type:
            return
        if spec.type not in ("direct", "topic", "fanout"):
            raise ConfigurationError(
                f"exchange {spec.name!r}: Redis routes direct, topic and fanout, not {spec.type}"
            )
        known = self._declared_type(session, spec)
        if known != spec.type:
            raise DeclareConflict(
                f"exchange {spec.name!r} is {known} on this Redis and was declared {spec.type}: use another "
                f"name, or when nobody uses it any more: HDEL {self.layout.exchanges} {spec.name}"
            )
        self._types[spec.name] = known

    def _declared_type(self, session: RedisSession, spec: ExchangeSpec) -> str:
        """What it is declared as; declared now when it was not."""
        found = session.command("HGET", self.layout.exchanges, spec.name)
        if found is None:
            session.command("HSETNX", self.layout.exchanges, spec.name, spec.type)
            found = session.command("HGET", self.layout.exchanges, spec.name)
        return str(found.decode())

    def forget(self, session: RedisSession, queue: str) -> list[str]:
        """Take away its record and bindings; the exchanges it was bound to."""
        stored = session.command("HGET", self.layout.queues, queue)
        record = QueueRecord.load(stored) if stored else self.records.get(queue, QueueRecord())
        for exchange, _, _, member in record.bindings:
            session.command("SREM", self.layout.bindings(exchange), member)
            session.command("SREM", self.layout.permanent_bindings(exchange), member)
            self._tables.pop(exchange, None)
        session.command("HDEL", self.layout.queues, queue)
        session.command("ZREM", self.layout.expiring, queue)
        self.records.pop(queue, None)
        self._seen.pop(queue, None)
        return [row[0] for row in record.bindings]

    # -- looking up ------------------------------------------------------------------------------------

    def exists(self, queue: str) -> bool:
        """Whether it was seen just now; ``look_up`` first."""
        return time.monotonic() - self._seen.get(queue, -BELIEVED_S) < BELIEVED_S

    def require(self, session: RedisSession, queues: Sequence[str]) -> None:
        """Raises QueueNotFound for the first that does not exist."""
        self.look_up(session, queues=queues, fresh=True)
        for queue in queues:
            if not self.exists(queue):
                raise QueueNotFound(f"there is no queue {queue!r} on this Redis: declare it first")

    def look_up(
        self,
        session: RedisSession,
        *,
        queues: Iterable[str] = (),
        exchanges: Iterable[str] = (),
        fresh: bool = False,
    ) -> None:
        """Fetch, in one round trip, what is not known of these queues and exchanges."""
        now = time.monotonic()
        wanted = [name for name in dict.fromkeys(queues) if fresh or not self.exists(name)]
        tables = [
            name
            for name in dict.fromkeys(exchanges)
            if fresh or now - self._tables.get(name, (-1e9, []))[0] > BELIEVED_S
        ]
        commands = []
        for name in wanted:
            lists = self.layout.lists_of([name])
            commands.append(pack("HGET", self.layout.queues, name))
            commands.append(pack("EXISTS", self.layout.bindings(name), *lists))
        for name in tables:
            commands.append(pack("SMEMBERS", self.layout.bindings(name)))
            commands.append(pack("HGET", self.layout.exchanges, name))
        if not commands:
            return
        answers = [session.checked(answer) for answer in session.ask(*commands)]
        for index, name in enumerate(wanted):
            self._learn_queue(name, answers[2 * index], answers[2 * index + 1], now)
        rest = answers[2 * len(wanted) :]
        for index, name in enumerate(tables):
            self._tables[name] = (now, list(rest[2 * index]))
            if rest[2 * index + 1] is not None:
                self._types[name] = rest[2 * index + 1].decode()

    def _learn_queue(self, name: str, record: bytes | None, existing: int, now: float) -> None:
        if record is not None:
            self.records[name] = QueueRecord.load(record)
        if record is not None or existing:
            self._seen[name] = now
        else:
            self._seen.pop(name, None)

    def is_fanout(self, exchange: str) -> bool:
        return self._types.get(exchange) == "fanout"

    def targets(self, exchange: str, routing_key: str) -> list[str]:
        """The queues a message goes to; ``look_up`` first. The default exchange takes the key as it is."""
        if not exchange:
            return [routing_key]
        members = self._tables.get(exchange, (0.0, []))[1]
        return self.layout.targets(members, routing_key)

    def bindings_of(self, queue: str) -> tuple[tuple[str, str, str, str], ...]:
        """Exchange, its type, routing key and table member of each; ``look_up`` first."""
        return self.records.get(queue, QueueRecord()).bindings

    def dead_letter_lists(self, session: RedisSession, delivery: Delivery) -> list[str]:
        """The lists that get the delivery when it is rejected; empty when its queue drops it."""
        arguments = self.records.get(delivery.queue, QueueRecord()).arguments
        if arguments.get("x-dead-letter-exchange") is None:
            return []
        exchange = str(arguments["x-dead-letter-exchange"])
        key = str(arguments.get("x-dead-letter-routing-key") or delivery.routing_key)
        if exchange:
            self.look_up(session, exchanges=[exchange])
        priority = delivery.properties.get("priority")
        return [self.layout.list_for(name, priority) for name in self.targets(exchange, key)]
