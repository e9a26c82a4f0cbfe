"""`Control` (``app.control``): commands to running workers, Celery's and ours, and their replies.

    app.control.revoke(result.id, terminate=True)
    app.control.ping()  # [{'engine@host': {'ok': 'pong'}}]

Rules: a command goes to all workers of the broker, or to the nodes named by ``destination``; it is not kept
for workers that start later. Without ``reply`` nothing is waited for but the broker's confirm. A command that
no worker could hear is logged as a warning.
"""

from __future__ import annotations

import logging
import signal as signals
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from engine.codec import Delivery
from engine.errors import CodecError, ConfigurationError, TransportError, Unroutable
from engine.ids import new_id
from engine.mailbox import Command, LamportClock, Mailbox
from engine.message_body import read_body
from engine.producer import Producer
from engine.transport import Transport, mask_url, split_failover, transport_class

logger = logging.getLogger("engine.control")

Reply = dict[str, Any]
_PREFETCH = 100
_clock = LamportClock()


class Control:
    """Remote control of the workers that read the app's broker."""

    def __init__(self, app: Any) -> None:
        self._app = app

    # -- commands --------------------------------------------------------------------------------------

    def revoke(
        self,
        task_id: str | Sequence[str],
        destination: Sequence[str] | None = None,
        terminate: bool = False,
        signal: str | int | None = "SIGTERM",
        **options: Any,
    ) -> list[Reply] | None:
        """Tell the workers not to run a task, or a list of them; such a task ends as REVOKED.

        With ``terminate`` a process that runs it is ended, with this signal; the task ends as REVOKED too.
        ``options`` are `broadcast`'s. Raises ConfigurationError for an unknown signal, ConnectionFailed,
        PublishError."""
        ids = [task_id] if isinstance(task_id, str) else list(task_id)
        arguments = {"task_id": ids, "terminate": bool(terminate), "signal": signal_name(signal)}
        return self.broadcast("revoke", arguments, destination, **options)

    def terminate(
        self,
        task_id: str | Sequence[str],
        destination: Sequence[str] | None = None,
        signal: str | int | None = "SIGTERM",
        **options: Any,
    ) -> list[Reply] | None:
        """`revoke` with ``terminate=True``."""
        return self.revoke(task_id, destination, terminate=True, signal=signal, **options)

    def ping(
        self, destination: Sequence[str] | None = None, timeout: float = 1.0, **options: Any
    ) -> list[Reply]:
        """Which workers answer: ``[{node: {"ok": "pong"}}, ...]``."""
        return self.broadcast("ping", {}, destination, reply=True, timeout=timeout, **options) or []

    # -- sending ---------------------------------------------------------------------------------------

    def broadcast(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        destination: Sequence[str] | None = None,
        connection: Any = None,
        reply: bool = False,
        timeout: float | None = 1.0,
        limit: int | None = None,
        callback: Callable[[Reply], Any] | None = None,
        channel: Any = None,
        pattern: str | None = None,
        matcher: str | None = None,
        **more_arguments: Any,
    ) -> list[Reply] | None:
        """Send a command to all workers, to the nodes of ``destination``, or to those whose name ``matcher``
        (glob, pcre) finds by ``pattern``.

        With ``reply`` the answers, ``{node: answer}`` each: those that came within ``timeout`` seconds, or as
        soon as there are ``limit`` (by default as many as ``destination`` names). ``connection`` and
        ``channel`` are accepted for Celery's sake. Raises ConfigurationError where the broker cannot
        broadcast, ConnectionFailed, PublishError."""
        if isinstance(destination, str):
            raise ConfigurationError(f"destination is a list of node names, not {destination!r}")
        self._require_fanout()
        conf = self._app.conf
        mailbox = Mailbox.of(conf)
        order = Command(
            command,
            {**(arguments or {}), **more_arguments},
            None if destination is None else tuple(destination),
            pattern,
            matcher,
        )
        if not reply:
            self._send(self._app.producer, mailbox, order, timeout)
            return None
        replies: list[Reply] = []
        wanted = limit or (len(destination) if destination else 0)
        for answer in self._ask(mailbox, order, 1.0 if timeout is None else timeout):
            if callback is not None:
                callback(answer)
            replies.append(answer)
            if len(replies) == wanted:
                break
        return replies

    def _ask(self, mailbox: Mailbox, order: Command, wait_s: float) -> Iterator[Reply]:
        """Send it on a connection of its own, and give the answers as they come."""
        conf = self._app.conf
        oid = new_id()
        asked = replace(order, ticket=new_id(), reply_to=(mailbox.reply_exchange.name, oid))
        with self._reply_queue(mailbox, oid) as transport:
            producer = Producer(transport, serializer=conf.task_serializer, timeout=conf.producer_timeout)
            if self._send(producer, mailbox, asked, wait_s):
                yield from self._answers(transport, asked, time.monotonic() + wait_s)

    def _require_fanout(self) -> None:
        conf = self._app.conf
        url = conf.broker_write_url or conf.broker_url
        first = split_failover(url)[0]
        if "fanout" not in transport_class(first).capabilities.exchanges:
            raise ConfigurationError(
                f"{mask_url(first)} cannot broadcast, so its workers cannot be controlled from here: use "
                "RabbitMQ, Redis or SQLite as the broker. Nothing was sent"
            )

    def _send(self, producer: Producer, mailbox: Mailbox, order: Command, timeout: float | None) -> bool:
        """Whether anybody can hear it."""
        try:
            producer.publish(
                order.to_body(),
                exchange=mailbox.exchange,
                declare=[mailbox.exchange],
                serializer=self._app.conf.task_serializer,
                delivery_mode=1,
                mandatory=True,
                retry=True,
                headers={"clock": _clock.forward(), "expires": time.time() + timeout if timeout else 0},
            )
        except Unroutable:
            if order.reply_to is None:  # else having no reply tells it
                logger.warning("no worker is listening: the command %r was heard by nobody", order.method)
            return False
        return True

    # -- replies ---------------------------------------------------------------------------------------

    @contextmanager
    def _reply_queue(self, mailbox: Mailbox, oid: str) -> Iterator[Transport]:
        """A connection that consumes a queue of this call alone; the queue goes with it."""
        transport = self._app.open_transport(write=True)
        queue = mailbox.reply_queue(oid)
        try:
            transport.declare(queue)
            transport.consume([queue.name], _PREFETCH)
            yield transport
        finally:
            with suppress(TransportError):  # where the broker deletes it by itself it may be gone
                transport.cancel()
                transport.delete_queue(queue.name)
            transport.close()

    def _answers(self, transport: Transport, asked: Command, deadline_mono_s: float) -> Iterator[Reply]:
        while (left_s := deadline_mono_s - time.monotonic()) > 0:
            deliveries = transport.receive(left_s)
            transport.ack(deliveries)
            for delivery in deliveries:
                answer = self._read(delivery)
                _clock.adjust(delivery.header("clock"))
                if answer is not None and delivery.header("ticket", asked.ticket) == asked.ticket:
                    yield answer

    def _read(self, delivery: Delivery) -> Reply | None:
        conf = self._app.conf
        try:
            answer = read_body(delivery, conf.accept_content, conf.broker_max_message_size)
        except CodecError as error:
            logger.error("a reply cannot be read: %s", error)
            return None
        return answer if isinstance(answer, dict) else None


def signal_name(signal: str | int | None) -> str:
    """The full name of a signal given by number or name (``TERM``, ``SIGTERM``, 15); None is SIGTERM.

    Raises ConfigurationError for one that does not exist."""
    if signal is None:
        return "SIGTERM"
    try:
        if isinstance(signal, str) and not signal.isdigit():
            name = signal.upper()
            return signals.Signals[name if name.startswith("SIG") else f"SIG{name}"].name
        return signals.Signals(int(signal)).name
    except (KeyError, ValueError, TypeError):
        raise ConfigurationError(f"there is no signal {signal!r}: give a name, as in 'SIGKILL'") from None
