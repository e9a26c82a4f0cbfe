"""Exchange routing as RabbitMQ does it, for brokers that live in this process.

Pure: no socket, no clock, no lock. A `RoutingTable` knows exchanges, queues and bindings by name and answers
which queues a message goes to. Rules: AMQP 0-9-1 section 3.1.3; headers exchanges as RabbitMQ documents them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.errors import DeclareConflict, QueueNotFound

EXCHANGE_TYPES = frozenset({"direct", "topic", "fanout", "headers"})

#: What every RabbitMQ broker has before anybody declares anything.
PREDECLARED = {f"amq.{kind}": kind for kind in sorted(EXCHANGE_TYPES)}

#: Routing keys are user data: the cache of routes is emptied when it has grown to this many.
_ROUTES_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Binding:
    """One queue bound to one exchange."""

    queue: str
    routing_key: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)


def topic_matches(pattern: str, routing_key: str) -> bool:
    """Whether a topic binding matches: ``*`` is one word, ``#`` any number of words, also none.

    Keeps the set of places in the key that the pattern may have reached, so no pattern is slow."""
    words = routing_key.split(".") if routing_key else []
    places = {0}
    for piece in pattern.split(".") if pattern else []:
        if piece == "#":
            places = set(range(min(places), len(words) + 1))
        else:
            places = {at + 1 for at in places if at < len(words) and piece in ("*", words[at])}
        if not places:
            return False
    return len(words) in places


def headers_match(arguments: Mapping[str, Any], headers: Mapping[str, Any]) -> bool:
    """Whether a headers binding matches: ``x-match`` all (the default), any, all-with-x or any-with-x.

    An argument of None asks only that the header is there."""
    mode = str(arguments.get("x-match", "all"))
    with_x = mode.endswith("-with-x")
    wanted = [
        (key, value)
        for key, value in arguments.items()
        if key != "x-match" and (with_x or not key.startswith("x-"))
    ]
    hits = (key in headers and value in (None, headers[key]) for key, value in wanted)
    return any(hits) if mode.startswith("any") else all(hits)


class RoutingTable:
    """Exchanges, queues and bindings, and the routes that follow from them."""

    def __init__(self) -> None:
        self._types: dict[str, str] = dict(PREDECLARED)
        self._bindings: dict[str, list[Binding]] = {}
        self._queues: set[str] = set()
        self._routes: dict[tuple[str, str], tuple[str, ...]] = {}

    def add_exchange(self, name: str, kind: str) -> None:
        """Idempotent. Raises DeclareConflict when it exists with another type or there is no such type."""
        known = self._types.get(name)
        if kind not in EXCHANGE_TYPES:
            raise DeclareConflict(
                f"exchange {name!r} cannot be of type {kind!r}: "
                f"use one of {', '.join(sorted(EXCHANGE_TYPES))}"
            )
        if known is None:
            self._types[name] = kind
            self._routes.clear()
        elif known != kind:
            raise DeclareConflict(
                f"exchange {name!r} exists with type {known!r} and was declared with {kind!r}: messages "
                f"would go elsewhere than meant. Declare it with {known!r}, or take another name."
            )

    def add_queue(self, name: str) -> None:
        """Idempotent."""
        self._queues.add(name)
        self._routes.clear()

    def remove_queue(self, name: str) -> None:
        """Take it away with its bindings. Idempotent."""
        self._queues.discard(name)
        for exchange, bindings in self._bindings.items():
            self._bindings[exchange] = [binding for binding in bindings if binding.queue != name]
        self._routes.clear()

    def bind(self, exchange: str, binding: Binding) -> None:
        """Idempotent. Binding to the default exchange is implied and ignored."""
        if not exchange:
            return
        bindings = self._bindings.setdefault(exchange, [])
        if binding not in bindings:
            bindings.append(binding)
            self._routes.clear()

    def has_queue(self, name: str) -> bool:
        return name in self._queues

    def queue_names(self) -> Sequence[str]:
        return sorted(self._queues)

    def route(self, exchange: str, routing_key: str, headers: Mapping[str, Any] | None) -> Sequence[str]:
        """The queues a message goes to, each once. Raises QueueNotFound for an unknown exchange."""
        if not exchange:
            return (routing_key,) if routing_key in self._queues else ()
        kind = self._types.get(exchange)
        if kind is None:
            raise QueueNotFound(f"there is no exchange {exchange!r}: declare it first")
        if kind == "headers":
            return self._select(exchange, kind, routing_key, headers or {})
        key = (exchange, routing_key)
        route = self._routes.get(key)
        if route is None:
            if len(self._routes) >= _ROUTES_REMEMBERED:
                self._routes.clear()
            route = self._routes[key] = self._select(exchange, kind, routing_key, {})
        return route

    def _select(
        self, exchange: str, kind: str, routing_key: str, headers: Mapping[str, Any]
    ) -> tuple[str, ...]:
        matching = self._matching(self._bindings.get(exchange, []), kind, routing_key, headers)
        return tuple(dict.fromkeys(binding.queue for binding in matching))

    @staticmethod
    def _matching(
        bindings: Sequence[Binding], kind: str, routing_key: str, headers: Mapping[str, Any]
    ) -> Iterator[Binding]:
        for binding in bindings:
            if (
                kind == "fanout"
                or (kind == "direct" and binding.routing_key == routing_key)
                or (kind == "topic" and topic_matches(binding.routing_key, routing_key))
                or (kind == "headers" and headers_match(binding.arguments, headers))
            ):
                yield binding
