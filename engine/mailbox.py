"""Control messages as kombu's mailbox sends them (kombu/pidbox.py): where they go, and what is in them.

A command goes to a fanout exchange; every node has a queue of its own there. A reply goes to a direct
exchange, with the caller's name as its key. Values only: the caller's side is `engine.control`, the worker's
`engine.worker.control_child`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any

from engine.errors import ConfigurationError, DecodeError
from engine.model import BindingSpec, ExchangeSpec, QueueSpec


@dataclass(frozen=True, slots=True)
class Mailbox:
    """The exchanges and queues of control messages, as the settings ``control_*`` name and shape them."""

    namespace: str
    exclusive: bool
    durable: bool
    arguments: Mapping[str, Any]

    @classmethod
    def of(cls, conf: Any) -> Mailbox:
        """Raises ConfigurationError for settings that exclude each other."""
        if conf.control_queue_durable and conf.control_queue_exclusive:
            raise ConfigurationError(
                "control_queue_durable and control_queue_exclusive exclude each other: an exclusive queue "
                "goes with its connection. Set control_queue_exclusive=False"
            )
        arguments = {}
        if conf.control_queue_expires:
            arguments["x-expires"] = int(conf.control_queue_expires * 1000)
        if conf.control_queue_ttl:
            arguments["x-message-ttl"] = int(conf.control_queue_ttl * 1000)
        return cls(conf.control_exchange, conf.control_queue_exclusive, conf.control_queue_durable, arguments)

    @property
    def exchange(self) -> ExchangeSpec:
        """Where commands go."""
        return ExchangeSpec(f"{self.namespace}.pidbox", "fanout", durable=False)

    @property
    def reply_exchange(self) -> ExchangeSpec:
        """Where replies go."""
        return ExchangeSpec(f"reply.{self.namespace}.pidbox", "direct", durable=False)

    def node_queue(self, node: str, oid: str | None = None) -> QueueSpec:
        """The queue of one worker; with its ``oid`` it also gets replies to what the worker asks itself."""
        bindings = [BindingSpec(self.exchange)]
        if oid is not None:
            bindings.append(BindingSpec(self.reply_exchange, oid))
        return self._queue(f"{node}.{self.exchange.name}", *bindings)

    def reply_queue(self, oid: str) -> QueueSpec:
        """The queue of one caller."""
        return self._queue(f"{oid}.{self.reply_exchange.name}", BindingSpec(self.reply_exchange, oid))

    def _queue(self, name: str, *bindings: BindingSpec) -> QueueSpec:
        return QueueSpec(
            name,
            durable=self.durable,
            exclusive=self.exclusive,
            auto_delete=not self.durable,
            arguments=self.arguments,
            bindings=bindings,
        )


@dataclass(frozen=True, slots=True)
class Command:
    """What a caller asks of the nodes. ``reply_to``: exchange and routing key, or None."""

    method: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    destination: tuple[str, ...] | None = None
    pattern: str | None = None
    matcher: str | None = None
    ticket: str | None = None
    reply_to: tuple[str, str] | None = None

    @classmethod
    def from_body(cls, body: Any) -> Command:
        """Raises DecodeError for what is no command."""
        try:
            reply_to = body.get("reply_to")
            return cls(
                method=str(body["method"]),
                arguments=dict(body.get("arguments") or {}),
                destination=tuple(body["destination"]) if body.get("destination") else None,
                pattern=body.get("pattern"),
                matcher=body.get("matcher"),
                ticket=body.get("ticket"),
                reply_to=(str(reply_to["exchange"]), str(reply_to["routing_key"])) if reply_to else None,
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DecodeError(f"not a control command: {error!r}") from error

    def to_body(self) -> dict[str, Any]:
        """As kombu writes it."""
        body: dict[str, Any] = {
            "method": self.method,
            "arguments": dict(self.arguments),
            "destination": None if self.destination is None else list(self.destination),
            "pattern": self.pattern,
            "matcher": self.matcher,
        }
        if self.reply_to is not None:
            exchange, key = self.reply_to
            body |= {"ticket": self.ticket, "reply_to": {"exchange": exchange, "routing_key": key}}
        return body

    def is_for(self, node: str) -> bool:
        """Whether that node is meant. Raises DecodeError for an unknown matcher, or a bad pattern."""
        if self.destination:
            return node in self.destination
        if not (self.pattern and self.matcher):
            return True
        if self.matcher == "glob":
            return fnmatch(node, self.pattern)
        if self.matcher == "pcre":
            try:
                return re.match(self.pattern, node) is not None
            except re.error as error:
                raise DecodeError(f"the pattern {self.pattern!r} cannot be read: {error}") from error
        raise DecodeError(f"there is no matcher {self.matcher!r}: use glob or pcre")


class LamportClock:
    """The logical clock whose time control messages and replies carry in their header ``clock``."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def forward(self) -> int:
        """The next moment, for what is sent now."""
        self.value += 1
        return self.value

    def adjust(self, other: Any) -> None:
        """Something came that was sent at ``other``; what is no number is passed over."""
        if isinstance(other, int):
            self.value = max(self.value, other)
        self.value += 1
