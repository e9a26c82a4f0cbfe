"""The control child: the one process of a worker that answers remote control.

It is forked by the template like any child, consumes the node's control queue on a connection of its own, and
hands what concerns running tasks to the supervisor. It runs no tasks, and no code of the user's. Its end, or
a broker that will not have its queue, does not disturb the work: the supervisor starts another one.

A command is acknowledged before it is carried out: one that kills this process must not do so again.
"""

from __future__ import annotations

import logging
import os
import select
import time
from collections.abc import Callable, Sequence
from typing import Any

from engine.codec import Delivery, Message
from engine.errors import (
    AccessRefused,
    CodecError,
    DeclareConflict,
    EngineError,
    TransportError,
    Unroutable,
)
from engine.ids import new_id
from engine.mailbox import Command, Mailbox
from engine.message_body import read_body, write_body
from engine.model import ExchangeSpec, QueueSpec
from engine.transport.base import Transport
from engine.worker import scoreboard
from engine.worker.greeting import Greeting
from engine.worker.link import AWAY, Link
from engine.worker.logs import clean
from engine.worker.panel import Node, call
from engine.worker.revoked import RevokedIds
from engine.worker.template import Birth

log = logging.getLogger("engine.worker")

_PREFETCH = 10
_RECEIVE_S = 30.0
_REFUSED_PAUSE_S = 30.0
_MOST_EXCHANGES = 100


class ControlLink(Link):
    """The way to the broker, reading the node's control queue."""

    def __init__(
        self,
        app: Any,
        mailbox: Mailbox,
        node: str,
        oid: str,
        control_fd: int,
        keep_waiting: Callable[[], bool],
    ) -> None:
        super().__init__(app, None, keep_waiting, control_fd=control_fd)
        self._mailbox = mailbox
        self._node = node
        self._oid = oid
        self._told = False

    def _specs(self, transport: Transport) -> Sequence[QueueSpec]:
        """The node's queue; one of a name of its own when another worker has the node's name already, since
        each of the two must hear every command."""
        spec = self._mailbox.node_queue(self._node, self._oid)
        transport.cancel()  # after a reconnect it may be this very consumer that is found there
        try:
            taken = bool(transport.declare(spec).consumers)
        except DeclareConflict:
            taken = True
        if taken:
            if not self._told:
                log.warning("another worker is named %s too: give each a name of its own (-n)", self._node)
            self._told = True
            spec = self._mailbox.node_queue(f"{self._node}.{new_id()[:8]}", self._oid)
        return [spec]


class ControlLife:
    """The control child's life."""

    def __init__(self, app: Any, birth: Birth) -> None:
        self._app = app
        self._birth = birth
        self._control = birth.control
        self._slot = birth.scoreboard.slot(birth.slot)
        self._stop = False
        self._greeted = False
        self._told = ""  # the refusal that was logged
        self._declared: set[str] = set()  # reply exchanges, on the connection of that epoch
        self._declared_in = 0
        self._receive_s = min(_RECEIVE_S, birth.options.deaf_after_s / 4)
        self._mailbox = Mailbox.of(app.conf)
        self._node = Node(
            birth.options.nodename(),
            birth.scoreboard,
            RevokedIds(birth.scoreboard.revoked),
            self._control.send,
        )
        self._greeting = Greeting(self._mailbox, self._node.name)
        self._link = ControlLink(
            app,
            self._mailbox,
            self._node.name,
            self._greeting.oid,
            self._control.fileno(),
            self._keep_waiting,
        )

    def ask_to_stop(self) -> None:
        """The loop ends after the command at hand. Safe in a signal handler."""
        self._stop = True

    def live(self) -> None:
        """Connect, answer, close. Raises EngineError for what no waiting mends."""
        self._slot.phase(scoreboard.RECONNECTING)
        self._sign_of_life()
        transport = self._link.open()
        while transport is not None and not self._stop:
            try:
                if transport.connected:
                    self._link.consume(_PREFETCH)
                    self._answer(transport)
                else:
                    transport = self._link.reopen()
            except TransportError as error:
                if isinstance(error, AWAY) and not isinstance(error, AccessRefused):
                    self._link.lost(error, "remote control lost the broker")
                    self._link.drop()
                else:
                    self._refused(error)
        self._leave(transport)

    def _answer(self, transport: Transport) -> None:
        self._slot.phase(scoreboard.IDLE)
        self._control.send({"op": "ready"})
        if not self._greeted:
            self._greet(transport)
        while not self._stop:
            self._sign_of_life()
            deliveries = transport.receive(self._receive_s)
            transport.ack(deliveries)
            for delivery in deliveries:
                self._handle(transport, delivery)
            self._read_control()

    def _greet(self, transport: Transport) -> None:
        """Once in its life: ask the other workers what was revoked before it came."""
        self._greeted = True
        node = self._node
        node.revoked.refresh()
        hello = self._greeting.message(
            list(node.revoked.keys), self._app.conf.task_serializer, node.clock.forward()
        )
        error = transport.publish([hello], mandatory=False)[0]
        if error is not None:
            log.warning("other workers could not be asked what was revoked before: %s", error)

    def _body_of(self, delivery: Delivery) -> Any:
        conf = self._app.conf
        return read_body(delivery, conf.accept_content, conf.broker_max_message_size)

    def _refused(self, error: TransportError) -> None:
        """The broker will not have the queue: work goes on, and it is tried again now and then."""
        if str(error) != self._told:
            self._told = str(error)
            log.warning("no remote control (the work goes on): the broker refused its queue: %s", error)
        poll = select.poll()
        poll.register(self._control.fileno(), select.POLLIN)
        if not poll.poll(min(_REFUSED_PAUSE_S, self._receive_s) * 1000):
            self._sign_of_life()
        self._read_control()

    def _leave(self, transport: Transport | None) -> None:
        """Where queues are not deleted with their consumer, this one is."""
        if transport is not None and transport.connected and not self._mailbox.durable:
            try:
                transport.cancel()
                for name in self._link.names:
                    transport.delete_queue(name)
            except EngineError as error:
                log.debug("the control queue was not deleted: %s", error)
        self._link.close()

    # -- one command -----------------------------------------------------------------------------------

    def _handle(self, transport: Transport, delivery: Delivery) -> None:
        node = self._node
        node.clock.adjust(delivery.header("clock"))
        try:
            body = self._body_of(delivery)
            if self._greeting.is_answered_by(delivery):
                if ids := self._greeting.ids_in(body):
                    node.flag(ids)
                return
            command = Command.from_body(body)
            if not command.is_for(node.name):
                return
        except CodecError as error:
            log.error("a control message cannot be read: %s", clean(str(error), 500))
            return
        answer = call(node, command.method, command.arguments)
        if command.reply_to is None:
            return
        outcome: Exception | None
        try:
            outcome = self._reply(transport, command, *command.reply_to, answer)
        except AWAY:
            raise
        except EngineError as error:
            outcome = error
        if isinstance(outcome, Unroutable):
            log.debug("nobody waits for the reply to %s any more", command.method)
        elif outcome is not None:
            log.warning("the reply to the command %s was not sent: %s", clean(command.method), outcome)

    def _reply(
        self, transport: Transport, command: Command, exchange: str, routing_key: str, answer: Any
    ) -> Exception | None:
        body, content_type, encoding, _ = write_body(
            {self._node.name: answer}, self._app.conf.task_serializer
        )
        message = Message(
            body,
            content_type=content_type,
            content_encoding=encoding,
            exchange=exchange,
            routing_key=routing_key,
            delivery_mode=1,
            headers={"ticket": command.ticket, "clock": self._node.clock.forward()},
        )
        if self._declared_in != transport.epoch or len(self._declared) > _MOST_EXCHANGES:
            self._declared_in, self._declared = transport.epoch, set()
        if exchange not in self._declared:
            transport.declare_exchange(ExchangeSpec(exchange, "direct", durable=False))
            self._declared.add(exchange)
        return transport.publish([message])[0]

    # -- the supervisor's side -------------------------------------------------------------------------

    def _sign_of_life(self) -> None:
        self._slot.progress(os.getpid(), self._birth.generation, 0, 0, time.monotonic())

    def _keep_waiting(self) -> bool:
        self._sign_of_life()
        self._read_control()
        return not self._stop

    def _read_control(self) -> None:
        for message in self._control.receive():
            if message["op"] in ("drain", "quit"):
                self._stop = True
        if self._control.eof:
            self._stop = True
