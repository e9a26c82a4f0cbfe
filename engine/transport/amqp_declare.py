"""Declaring on RabbitMQ, and what to do when the thing exists with other arguments.

It is used as it is where that is safe, with one warning; not safe is what could lose messages (a transient
queue where a durable one is wanted) or route them elsewhere (another exchange type, a stream). Everything
here goes over the connection's control channel: a refusal closes the channel, and deliveries must not go down
with it.
"""

from __future__ import annotations

import logging
import re

from engine.codec import Method
from engine.errors import AccessRefused, DeclareConflict, QueueNotFound, TransportError
from engine.model import ExchangeSpec, QueueSpec, QueueState
from engine.transport import amqp_methods as methods
from engine.transport.amqp_connection import AmqpConnection
from engine.transport.amqp_protocol import ChannelClosed

logger = logging.getLogger("engine.transport.amqp")

CONTROL = 2

_INEQUIVALENT = re.compile(
    r"inequivalent arg '(?P<argument>[^']+)' for \w+ '.*?' in vhost '.*?': "
    r"received (?P<wanted>.+?) but current is (?P<current>.+)$",
    re.DOTALL,
)
_VALUE = re.compile(r"(?:the value )?'(?P<value>.*)'(?: of type '.*')?$")


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
            if reply.code != 406:
                raise refusal(reply, f"declaring exchange {spec.name!r}")
            argument, wanted, current = _difference(reply)
            if argument in ("type", "internal"):
                raise DeclareConflict(
                    f"exchange {spec.name!r} exists with {argument} {current}, and {wanted} is asked for: "
                    "its messages would go elsewhere. Use another name, or delete the exchange"
                )
            self._warn("exchange", spec.name, argument, wanted, current)

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
        if reply.code != 406:
            raise refusal(reply, f"declaring queue {spec.name!r}")
        argument, wanted, current = _difference(reply)
        danger = ""
        if argument == "durable" and spec.durable:
            danger = "it and its messages would be gone when the broker restarts"
        elif argument == "exclusive":
            danger = "it would go with the connection that made it"
        elif argument == "x-queue-type" and current == "stream":
            danger = "a stream does not give each message to one consumer"
        if danger:
            raise DeclareConflict(
                f"queue {spec.name!r} exists with {argument} {current}, and {wanted} is asked for: {danger}. "
                f"Delete the queue, use another name, or set {argument} to {current}"
            )
        self._warn("queue", spec.name, argument, wanted, current)
        return queue_state(connection, spec.name)

    def _warn(self, kind: str, name: str, argument: str, wanted: str, current: str) -> None:
        if (kind, name, argument) in self._warned:
            return
        self._warned.add((kind, name, argument))
        logger.warning(
            "%s %r exists with %s %s and is used as it is; %s was asked for. To end this warning set %s to "
            "%s, or delete the %s and let it be declared anew.",
            kind,
            name,
            argument,
            current,
            wanted,
            argument,
            current,
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


def _difference(closed: ChannelClosed) -> tuple[str, str, str]:
    """(argument, what was asked for, what is there) out of the broker's words."""
    found = _INEQUIVALENT.search(closed.text)
    if found is None:
        return "arguments", "something else", closed.text
    return found["argument"], _plain(found["wanted"]), _plain(found["current"])


def _plain(words: str) -> str:
    """``the value '10' of type 'signedint'`` is 10."""
    found = _VALUE.match(words)
    return found["value"] if found else words
