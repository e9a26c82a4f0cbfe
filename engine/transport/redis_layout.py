"""kombu's layout of a Redis database, name by name (kombu/transport/redis.py), and the keys that are ours.

Pure: no socket, no clock. Celery's producers and workers use the same keys, so they share queues with us and
each recovers what the other left. Ours, beside kombu's:

=============================  =====================================================================
``engine.owners``              zset: owner token → when its lease ends (server clock)
``engine.claims.<token>``      hash: delivery tag → the list it was claimed from
``engine.host.<host>``         set: the owner tokens of one host, so that a sibling's death is seen at once
``engine.looked.<host>``       string with a short expiry: one process of a host at a time looks for its dead
``engine.delayed.<queue>``     zset: delivery tag → when it is due; to count them, ``unacked_index`` rules
``engine.queues``              hash: queue → its arguments and bindings, JSON (an empty list does not exist)
``engine.expiring``            zset: queue with x-expires → when it is deleted if nobody consumes it
``engine.exchanges``           hash: exchange → its type
``engine.watch.<queues>.<n>``  string: the owner that watches these queues' lists (redis_lua.py, TURNS)
``engine.idle.<queues>``       zset: owner that waits in the second row → since when
``engine.baton.<token>``       string: written to tell that owner to watch
``engine.recovered``           string with a short expiry: one recovery at a time for the whole fleet
=============================  =====================================================================
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.errors import ConfigurationError
from engine.model import BindingSpec
from engine.transport.base import TransportOptions
from engine.transport.redis_lua import sha1_of
from engine.transport.routing import topic_matches

#: kombu keeps a binding table this many times its queue's x-expires, and an hour at least.
_BINDING_EXPIRES_FACTOR = 2
_MIN_BINDING_TTL_MS = 60 * 60 * 1000


DEFAULT_STEPS = (0, 3, 6, 9)


@dataclass(frozen=True, slots=True)
class Layout:
    """The key names of one database. Spellings of the fields are kombu's transport options."""

    db: int = 0
    global_keyprefix: str = ""
    sep: str = "\x06\x16"
    priority_steps: tuple[int, ...] = DEFAULT_STEPS
    unacked_key: str = "unacked"
    unacked_index_key: str = "unacked_index"
    fanout_prefix: str | bool = True
    fanout_patterns: bool = True

    @classmethod
    def of(cls, options: TransportOptions, db: int) -> Layout:
        """Raises ConfigurationError for priority steps that are not ascending numbers from 0."""
        known = (
            "global_keyprefix",
            "sep",
            "unacked_key",
            "unacked_index_key",
            "fanout_prefix",
            "fanout_patterns",
        )
        chosen: dict[str, Any] = {name: options.extra[name] for name in known if name in options.extra}
        steps = tuple(options.extra.get("priority_steps") or DEFAULT_STEPS)
        if not steps or steps[0] != 0 or list(steps) != sorted({int(step) for step in steps}):
            raise ConfigurationError(f"priority_steps is {steps!r}: ascending numbers, the first of them 0")
        return cls(db=db, priority_steps=steps, **chosen)

    # -- kombu's keys ------------------------------------------------------------------------------------

    @property
    def unacked(self) -> str:
        return self.global_keyprefix + self.unacked_key

    @property
    def unacked_index(self) -> str:
        return self.global_keyprefix + self.unacked_index_key

    def bindings(self, exchange: str) -> str:
        return f"{self.global_keyprefix}_kombu.binding.{exchange}"

    def permanent_bindings(self, exchange: str) -> str:
        return f"{self.global_keyprefix}_kombu.binding_permanent.{exchange}"

    @property
    def binding_deadlines(self) -> str:
        return f"{self.global_keyprefix}_kombu.binding_deadlines"

    def list_for(self, queue: str, priority: int | None) -> str:
        """The list of one priority: it rounds down to a step; none given is the first, the most urgent."""
        clamped = max(0, min(9, priority or 0))
        step = self.priority_steps[bisect(self.priority_steps, clamped) - 1]
        return f"{self.global_keyprefix}{queue}{self.sep}{step}" if step else self.global_keyprefix + queue

    def lists_of(self, queues: Sequence[str]) -> list[str]:
        """Every list of the queues, the first step of all of them first, as kombu's BRPOP has them."""
        return [self.list_for(queue, step) for step in self.priority_steps for queue in queues]

    def fanout_patterns_for(self, exchange: str, routing_key: str) -> list[str]:
        """What a queue bound with that key subscribes to. An empty key takes every message, as in AMQP."""
        key = routing_key.replace("#", "*")
        topics = [self.fanout_topic(exchange, key)]
        if not key and self.fanout_patterns:
            topics.append(self.fanout_topic(exchange, "*"))
        return topics

    def fanout_topic(self, exchange: str, routing_key: str) -> str:
        if self.fanout_prefix is True:
            prefix = f"/{self.db}."
        else:
            prefix = self.fanout_prefix.format(db=self.db) if self.fanout_prefix else ""
        tail = f"/{routing_key}" if routing_key and self.fanout_patterns else ""
        return f"{self.global_keyprefix}{prefix}{exchange}{tail}"

    def member(self, binding: BindingSpec, queue: str) -> str:
        """A queue's entry in the binding table: key, pattern and queue."""
        key = binding.routing_key
        pattern = _topic_regex(key) if binding.exchange.type == "topic" else ""
        return self.sep.join((key, pattern, queue))

    def targets(self, members: Sequence[bytes], routing_key: str) -> list[str]:
        """The queues a routing key reaches through a binding table; each once, sorted."""
        found = set()
        for member in members:
            key, _, rest = member.decode("utf-8", "replace").partition(self.sep)
            pattern, _, queue = rest.partition(self.sep)
            if key == routing_key or (pattern and topic_matches(key, routing_key)):
                found.add(queue)
        return sorted(found)

    # -- ours --------------------------------------------------------------------------------------------

    @property
    def owners(self) -> str:
        return f"{self.global_keyprefix}engine.owners"

    @property
    def claims_prefix(self) -> str:
        return f"{self.global_keyprefix}engine.claims."

    def host(self, host: str) -> str:
        return f"{self.global_keyprefix}engine.host.{host}"

    def host_looked(self, host: str) -> str:
        return f"{self.global_keyprefix}engine.looked.{host}"

    @property
    def delayed_prefix(self) -> str:
        return f"{self.global_keyprefix}engine.delayed."

    @property
    def queues(self) -> str:
        return f"{self.global_keyprefix}engine.queues"

    @property
    def expiring(self) -> str:
        return f"{self.global_keyprefix}engine.expiring"

    @property
    def exchanges(self) -> str:
        return f"{self.global_keyprefix}engine.exchanges"

    def turn_keys(self, queues: Sequence[str]) -> list[str]:
        """Two watchers' slots and the idle, for all that wait for the same queues."""
        digest = sha1_of("\n".join(sorted(queues)))[:16]
        watch, idle = (f"{self.global_keyprefix}engine.{name}.{digest}" for name in ("watch", "idle"))
        return [f"{watch}.1", f"{watch}.2", idle]

    @property
    def batons(self) -> str:
        return f"{self.global_keyprefix}engine.baton."

    @property
    def recovered(self) -> str:
        return f"{self.global_keyprefix}engine.recovered"


def queue_expires_ms(arguments: Mapping[str, Any]) -> int | None:
    """The queue's x-expires, or None."""
    value = arguments.get("x-expires")
    return int(value) if isinstance(value, (int, float)) and value > 0 else None


def binding_ttl_ms(expires_ms: int) -> int:
    return max(expires_ms * _BINDING_EXPIRES_FACTOR, _MIN_BINDING_TTL_MS)


def _topic_regex(routing_key: str) -> str:
    """The pattern kombu stores for a topic binding (kombu/transport/virtual/exchange.py)."""
    from kombu.utils.text import escape_regex

    wildcards = {"*": r"[^\.]+", "#": r".*?"}
    words = escape_regex(routing_key, ".#*").split(".")
    return "^" + r"\.".join(wildcards.get(word, word) for word in words) + "$"
