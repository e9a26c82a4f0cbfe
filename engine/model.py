"""Plain values that more than one room needs. No behaviour, no I/O.

The values that cross the wire (`Message`, `Delivery`, `TaskMessage`) are extension classes and live in
`engine.codec`, a task's `Outcome` in `engine.work`; here is what describes the broker's topology.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class ExchangeSpec:
    """An exchange as it is declared. ``name=""`` is the default exchange, which needs no declaring."""

    name: str = ""
    type: str = "direct"  #: direct, topic, fanout or headers
    durable: bool = True
    auto_delete: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BindingSpec:
    """A binding of a queue to an exchange."""

    exchange: ExchangeSpec
    routing_key: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class QueueSpec:
    """A queue as it is declared, with the bindings it wants.

    ``arguments`` are the AMQP queue arguments (``x-queue-type``, ``x-max-priority``, ``x-message-ttl``, ...);
    a transport that has no such notion ignores those it cannot honour.
    """

    name: str
    durable: bool = True
    exclusive: bool = False
    auto_delete: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)
    bindings: tuple[BindingSpec, ...] = ()
    no_declare: bool = False


@dataclass(frozen=True, slots=True)
class QueueState:
    """What a broker tells of a queue. ``None``: this broker does not tell."""

    name: str
    ready: int
    unacked: int | None = None
    delayed: int | None = None
    consumers: int | None = None
    oldest_age_s: float | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """Where a message goes: the result of routing one task.

    ``queue`` is the spec to declare before the first publish, or None when only an exchange is named.
    """

    exchange: str = ""
    routing_key: str = ""
    queue: QueueSpec | None = None
    exchange_spec: ExchangeSpec | None = None
    priority: int | None = None
    delivery_mode: int = 2
    options: Mapping[str, Any] = field(default_factory=dict)  #: other apply_async options the route sets
