"""Keeps an owner's lease alive while user code runs and nobody reads the connection.

Over a plain socket the native keepalive thread writes a renewal (one EVAL, prepared) on the connection
itself, so a C call that holds the GIL for an hour loses nothing; the replies are read afterwards. Over TLS
the socket is Python's, so a Python thread renews on a connection of its own: there a C call that holds the
GIL for longer than the lease loses its claims, which are then run again elsewhere.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Protocol

from engine._keepalive import Keeper
from engine.errors import TransportError
from engine.transport.redis_scripts import RENEW
from engine.transport.redis_wire import RedisWire, pack

logger = logging.getLogger("engine.transport.redis")


class Lease(Protocol):
    """What a transport needs of it."""

    def arm(self) -> None:
        """Renew from now on, once an interval."""

    def disarm(self) -> tuple[int, bytes]:
        """Stop. (replies to come on the connection, the rest of a torn renewal that must be sent first)"""

    def stop(self) -> None:
        """End the thread. Never raises."""


class NativeLease:
    """Renews on the transport's own socket, without the GIL."""

    def __init__(self, fd: int, renewal: bytes, interval_s: float) -> None:
        self._keeper = Keeper(fd, interval_s)
        self._keeper.start()
        self._renewal: bytes | None = renewal

    def arm(self) -> None:
        self._keeper.arm(repeat=self._renewal)
        self._renewal = None  # as armed last time

    def disarm(self) -> tuple[int, bytes]:
        return self._keeper.disarm()

    def stop(self) -> None:
        self._keeper.stop()


class ThreadLease:
    """Renews on a connection of its own, from a Python thread."""

    def __init__(self, open_wire: Callable[[], RedisWire], renewal: bytes, interval_s: float) -> None:
        self._open_wire = open_wire
        self._renewal = renewal
        self._interval_s = interval_s
        self._armed = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="engine-redis-lease", daemon=True)
        self._thread.start()

    def arm(self) -> None:
        self._armed = True

    def disarm(self) -> tuple[int, bytes]:
        self._armed = False
        return 0, b""

    def stop(self) -> None:
        self._stopped.set()
        with contextlib.suppress(RuntimeError):
            self._thread.join(2.0)

    def _run(self) -> None:
        wire: RedisWire | None = None
        while not self._stopped.wait(self._interval_s):
            if not self._armed:
                continue
            try:
                wire = wire or self._connected()
                wire.send(self._renewal)
                wire.reply()
            except TransportError as error:
                logger.warning("the lease could not be renewed: %s", error)
                wire = None
        if wire is not None:
            wire.abandon()

    def _connected(self) -> RedisWire:
        wire = self._open_wire()
        wire.connect()
        return wire


def renewal_of(owners: str, claims: str, unacked_index: str, token: str, lease_s: float) -> bytes:
    # not EVALSHA: the scripts may be flushed while nobody reads the answers
    return pack("EVAL", RENEW.source, 3, owners, claims, unacked_index, token, lease_s)
