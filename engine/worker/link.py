"""A child's way to the broker: opened, declared, consumed; and opened again for as long as it takes.

Pauses between tries grow to a few seconds and are drawn at random, so that a thousand children do not come
back in the same instant. They grow too when connecting works and each connection fails soon after, as with a
damaged file. Each step is logged once, not for every try. Credentials that are refused at the
start are a mistake of the settings and end the worker; refused later, they are waited out. There is no end to
it unless ``broker_connection_max_retries`` sets one.
"""

from __future__ import annotations

import itertools
import logging
import random
import select
import time
from collections.abc import Callable, Sequence
from typing import Any

from engine.errors import (
    AccessRefused,
    ConnectionFailed,
    ConnectionLost,
    QueueNotFound,
    TransportClosed,
)
from engine.model import QueueSpec
from engine.transport.base import Transport

log = logging.getLogger("engine.worker")

_PAUSE_FIRST_S = 0.1
_PAUSE_MAX_S = 3.0
#: a connection that is lost earlier was no good: the next one waits, longer each time
_LASTING_S = 10.0

#: the broker is out of reach, and trying again is right
AWAY = (ConnectionFailed, ConnectionLost, TransportClosed)


class GaveUp(ConnectionFailed):
    """As many tries in a row have failed as ``broker_connection_max_retries`` and its like allow."""


class Link:
    """The connection of one child.

    Args:
        app: the app; its settings say where the broker is.
        queue_names: the queues to read, or None for the app's own.
        keep_waiting: called after each failed try; False gives up (the child is to stop).
        worker: the worker's ``name@host``, for ``worker_direct``.
        control_fd: readable when the supervisor has something to say; known once there is a process.
    """

    def __init__(
        self,
        app: Any,
        queue_names: tuple[str, ...] | None,
        keep_waiting: Callable[[], bool],
        worker: str | None = None,
        control_fd: int = -1,
    ) -> None:
        self._app = app
        self._queue_names = queue_names
        self.control_fd = control_fd
        self._keep_waiting = keep_waiting
        self._worker = worker
        self._max_retries: int = app.conf.broker_connection_max_retries or 0
        self.names: list[str] = []
        self.transport: Transport | None = None
        self._declared_on: Transport | None = None
        self._epoch = 0
        self._made_mono_s = 0.0
        self._pause_s = _PAUSE_FIRST_S  #: of the next loss of a connection that did not last
        self._lost_told = ""

    def open(self) -> Transport | None:
        """Connect for the first time. None when the child is to stop meanwhile. Raises AccessRefused,
        ConfigurationError, MissingExtra, DeclareConflict: mistakes that no waiting mends; and GaveUp."""
        conf = self._app.conf
        retry = conf.broker_connection_retry_on_startup
        patient = conf.broker_connection_retry if retry is None else retry
        return self._persist(self._first, patient=bool(patient), refused_is_fatal=True)

    def _first(self) -> Transport:
        self.transport = self._app.open_transport()
        return self.transport

    def lost(self, error: Exception, what: str = "lost the connection to the broker, trying again") -> None:
        """The connection broke: say so, unless the one before it broke in the same way and as soon."""
        if self._lasted():
            self._pause_s, self._lost_told = _PAUSE_FIRST_S, ""
        if str(error) != self._lost_told:
            self._lost_told = str(error)
            log.error("%s: %s", what, self._lost_told)

    def _lasted(self) -> bool:
        return time.monotonic() - self._made_mono_s >= _LASTING_S

    def reopen(self) -> Transport | None:
        """Connect again after a loss; None when the child is to stop. With a failover list the transport may
        be another object than before. Raises GaveUp."""
        if not self._lasted():
            self._sleep(random.uniform(self._pause_s / 2, self._pause_s))  # noqa: S311 - jitter, no secret
            self._pause_s = min(2 * self._pause_s, _PAUSE_MAX_S)
        if not self._keep_waiting():
            return None
        patient = bool(self._app.conf.broker_connection_retry)
        return self._persist(self._again, patient=patient, refused_is_fatal=False)

    def _again(self) -> Transport:
        transport = self.transport
        if transport is not None and ";" not in str(transport.url) and not self._has_failover():
            transport.reconnect()
            return transport
        if transport is not None:
            transport.abandon()
        return self._first()

    def _has_failover(self) -> bool:
        url = self._app.conf.broker_read_url or self._app.conf.broker_url
        return not isinstance(url, str) or ";" in url

    def body_bytes(self) -> int:
        """The size of a body that came lately; 0 when none has come."""
        return self.transport.body_bytes if self.transport is not None else 0

    def consume(self, prefetch: int) -> None:
        """Read the queues; declare them first, once a connection, or when one is gone. Called again it
        changes the prefetch. Raises QueueNotFound, DeclareConflict."""
        transport = self.transport
        if transport is None:
            return
        if self._declared_on is not transport or self._epoch != transport.epoch:
            self._declare(transport)
        try:
            transport.consume(self.names, prefetch)
        except QueueNotFound:
            self._declare(transport)
            transport.consume(self.names, prefetch)

    def _declare(self, transport: Transport) -> None:
        transport.wake_fds = (self.control_fd,)
        specs = self._specs(transport)
        for spec in specs:
            if not spec.no_declare:
                transport.declare(spec)
        self.names = [spec.name for spec in specs]
        self._declared_on, self._epoch = transport, transport.epoch

    def _specs(self, transport: Transport) -> Sequence[QueueSpec]:
        """The queues to read."""
        specs: Sequence[QueueSpec] = self._app.topology.consume_specs(self._queue_names, self._worker)
        return specs

    def _persist(
        self, connect: Callable[[], Transport], *, patient: bool, refused_is_fatal: bool
    ) -> Transport | None:
        told = ""
        started = time.monotonic()
        pause_s = _PAUSE_FIRST_S
        for retries in itertools.count():
            try:
                transport = connect()
            except AWAY as error:
                if refused_is_fatal and isinstance(error, AccessRefused):
                    raise
                if not patient:
                    raise GaveUp(
                        f"no connection to the broker, and broker_connection_retry (at the start "
                        f"broker_connection_retry_on_startup) is off: {error}"
                    ) from error
                if self._max_retries and retries >= self._max_retries:
                    raise GaveUp(
                        f"no connection to the broker after {retries} retries, which is what "
                        f"broker_connection_max_retries allows: {error}"
                    ) from error
                if str(error) != told:
                    told = str(error)
                    log.error("no connection to the broker, trying again: %s", told)
            else:
                if told:
                    log.info("connected again after %.1f s", time.monotonic() - started)
                self._made_mono_s = time.monotonic()
                return transport
            self._sleep(random.uniform(pause_s / 2, pause_s))  # noqa: S311 - jitter, no secret
            pause_s = min(2 * pause_s, _PAUSE_MAX_S)
            if not self._keep_waiting():
                break
        return None

    def _sleep(self, seconds: float) -> None:
        """Wait, or until the supervisor says something."""
        poll = select.poll()
        poll.register(self.control_fd, select.POLLIN)
        poll.poll(seconds * 1000)

    def drop(self) -> None:
        """Forget a connection that broke, without a word to the broker."""
        if self.transport is not None:
            self.transport.abandon()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()
