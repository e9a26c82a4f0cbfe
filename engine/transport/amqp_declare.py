"""Declaring on RabbitMQ, and what to do when the thing exists with other arguments.

It is used as it is where that is safe, with one warning; not safe is what could lose messages (a transient
queue where a durable one is wanted) or route them elsewhere (another exchange type, a stream). Everything
here goes over the connection's control channel: a refusal closes the channel, and deliveries must not go down
with it.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass

from engine.codec import Method
from engine.errors import AccessRefused, DeclareConflict, QueueNotFound, TransportError
from engine.model import ExchangeSpec, QueueSpec, QueueState
from engine.transport import amqp_methods as methods
from engine.transport.amqp_connection import AmqpConnection
from engine.transport.amqp_state import ChannelClosed

logger = logging.getLogger("engine.transport.amqp")

CONTROL = 2

_INEQUIVALENT = re.compile(
    r"inequivalent arg '(?P<argument>[^']+)' for \w+ '.*?' in vhost '.*?': "
    r"received (?P<wanted>.+?) but current is (?P<current>.+)$",
    re.DOTALL,
)
_VALUE = re.compile(r"(?:the value )?'(?P<value>.*?)'(?: of type '[^']*')?$")


@dataclass(frozen=True, slots=True)
class Difference:
    """One argument that is not as asked for; values as RabbitMQ writes them, ``none`` for an absent one."""

    argument: str
    wanted: str
    current: str

    @property
    def there(self) -> str:
        return self._said(self.current)

    @property
    def asked_for(self) -> str:
        return self._said(self.wanted)

    @property
    def way_out(self) -> str:
        if self.current == "none":
            return f"leave {self.argument} out"
        return f"set {self.argument} to {self.current}"

    def _said(self, value: str) -> str:
        return f"no {self.argument}" if value == "none" else f"{self.argument} {value}"


def refusal(closed: ChannelClosed, what: str) -> TransportError:
    """The broker's refusal as an error; ``what`` names what was tried."""
    if closed.code == 404:
        return QueueNotFound(f"{what}: {closed.text}")
    if closed.code == 403:
        return AccessRefused(f"{what}: {closed.text}. Give the user the permission, or use another")
    if closed.code == 405:
        return DeclareConflict(
            f"{what}: it belongs to another connection alone (exclusive): {closed.text}. Use another name"
        )
    return TransportError(f"{what}: {closed.code} {closed.text}")


class Declarer:
    """Declares for one transport, and warns once about each difference."""

    def __init__(self) -> None:
        self._warned: set[tuple[str, str, str]] = set()

    def queue(self, connection: AmqpConnection, spec: QueueSpec) -> QueueState:
        if spec.no_declare:
            return queue_state(connection, spec.name)
        for binding in spec.bindings:
            self.exchange(connection, binding.exchange)
        [reply] = connection.request(
            CONTROL,
            methods.queue_declare(
                CONTROL,
                spec.name,
                durable=spec.durable,
                exclusive=spec.exclusive,
                auto_delete=spec.auto_delete,
                arguments=spec.arguments,
            ),
        )
        if isinstance(reply, ChannelClosed):
            state = self._differs_queue(connection, spec, reply)
        else:
            state = _state(reply)
        self._bind(connection, spec)
        return state

    def exchange(self, connection: AmqpConnection, spec: ExchangeSpec) -> None:
        if not spec.name:
            return
        frame = methods.exchange_declare(
            CONTROL,
            spec.name,
            spec.type,
            passive=False,
            durable=spec.durable,
            auto_delete=spec.auto_delete,
            arguments=spec.arguments,
        )
        [reply] = connection.request(CONTROL, frame)
        if isinstance(reply, ChannelClosed):
            difference = _difference(reply)
            if difference is None:
                raise refusal(reply, f"declaring exchange {spec.name!r}")
            if difference.argument in ("type", "internal"):
                raise DeclareConflict(
                    f"exchange {spec.name!r} exists with {difference.there}, and {difference.asked_for} is "
                    "asked for: its messages would go elsewhere. Use another name, or delete the exchange"
                )
            self._warn("exchange", spec.name, difference)

    def _bind(self, connection: AmqpConnection, spec: QueueSpec) -> None:
        frames = [
            methods.queue_bind(
                CONTROL, spec.name, binding.exchange.name, binding.routing_key, binding.arguments
            )
            for binding in spec.bindings
            if binding.exchange.name
        ]
        if frames:
            last = connection.request(CONTROL, *frames)[-1]
            if isinstance(last, ChannelClosed):
                raise refusal(last, f"binding queue {spec.name!r}")

    def _differs_queue(self, connection: AmqpConnection, spec: QueueSpec, reply: ChannelClosed) -> QueueState:
        difference = _difference(reply)
        if difference is None:
            raise refusal(reply, f"declaring queue {spec.name!r}")
        danger = ""
        if difference.argument == "durable" and spec.durable:
            danger = "it and its messages would be gone when the broker restarts"
        elif difference.argument == "exclusive":
            danger = "it would go with the connection that made it"
        elif difference.argument == "x-queue-type" and difference.current == "stream":
            danger = "a stream does not give each message to one consumer"
        if danger:
            raise DeclareConflict(
                f"queue {spec.name!r} exists with {difference.there}, and {difference.asked_for} is asked "
                f"for: {danger}. Delete the queue, use another name, or {difference.way_out}"
            )
        self._warn("queue", spec.name, difference)
        return queue_state(connection, spec.name)

    def _warn(self, kind: str, name: str, difference: Difference) -> None:
        if (kind, name, difference.argument) in self._warned:
            return
        self._warned.add((kind, name, difference.argument))
        logger.warning(
            "%s %r exists with %s and is used as it is; %s was asked for. To end this warning %s, or delete "
            "the %s and let it be declared anew.",
            kind,
            name,
            difference.there,
            difference.asked_for,
            difference.way_out,
            kind,
        )


def queue_state(connection: AmqpConnection, name: str) -> QueueState:
    """Raises QueueNotFound."""
    [reply] = connection.request(CONTROL, methods.queue_declare(CONTROL, name, passive=True))
    if isinstance(reply, ChannelClosed):
        raise refusal(reply, f"queue {name!r}")
    return _state(reply)


def count_of(connection: AmqpConnection, frame: bytes, what: str) -> int:
    """Send a purge or delete; the number of messages it dropped. Raises as `refusal` says."""
    [reply] = connection.request(CONTROL, frame)
    if isinstance(reply, ChannelClosed):
        raise refusal(reply, what)
    return int(reply.args[0])


def _state(reply: Method) -> QueueState:
    name, ready, consumers = reply.args
    return QueueState(name, ready, consumers=consumers)


def _difference(closed: ChannelClosed) -> Difference | None:
    """Read out of the broker's words; None when they are about something else."""
    found = _INEQUIVALENT.search(closed.text) if closed.code == 406 else None
    if found is None:
        return None
    return Difference(found["argument"], _plain(found["wanted"]), _plain(found["current"]))


def _plain(words: str) -> str:
    """``the value '10' of type 'signedint'`` is 10."""
    found = _VALUE.match(words)
    return found["value"] if found else words
