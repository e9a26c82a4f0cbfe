"""Keeps an owner's lease alive while user code runs and nobody reads the connection.

A native thread writes a renewal (one EVAL, prepared) once an interval, so a C call that holds the GIL for
an hour loses nothing; the replies are read afterwards.

Over a plain socket it writes on the transport's own connection. Over TLS a record can only be made by the
session, in order, and whatever was made ahead has to be sent before anything newer. AMQP makes its heartbeats
ahead on the connection that it works on, and sends those left over before the next write; here every batch
is written on that connection, so an hour of renewals would be made, sent and executed for each batch. Hence a
second connection on which nothing is ever written but its renewals: made once, they stay good until they are
sent, and arming costs a task no more than over a plain socket. The price is that connection, opened with the
first guard (later would need the GIL), and 0.3 ms and 50 KB for an hour at the default lease.

Beside it a Python thread, when it gets to run, reads the replies and puts a fresh connection in the place of
one that broke or has used up half of its records. So a task that lets Python run may last for ever, and one
that does not loses its claims after `COVER_S`.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from engine._keepalive import Keeper
from engine.errors import ConnectionLost, TransportError
from engine.transport.redis_scripts import RENEW
from engine.transport.redis_wire import pack

if TYPE_CHECKING:
    from engine.transport.redis_lease_wire import LeaseWire

logger = logging.getLogger("engine.transport.redis")

#: How long a task over TLS may keep Python from running without losing its claims.
COVER_S = 3600
#: Bounds what is made ahead for a short lease (250 KB), and the replies nobody reads meanwhile (26 KB, which
#: any socket's buffer holds). It shortens the cover of leases below 11 s to 333 of them.
MOST_RECORDS = 1000


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


class TlsLease:
    """Renews on a connection of its own, without the GIL. See the module's docstring."""

    def __init__(
        self,
        open_wire: Callable[[], LeaseWire],
        renewal: bytes,
        interval_s: float,
        on_renewed: Callable[[Any], None],
    ) -> None:
        self._open_wire = open_wire
        self._renewal = renewal
        self._interval_s = interval_s
        self._on_renewed = on_renewed
        self._pid = os.getpid()
        self._failing = False
        self._armed = False
        self._line: _Line | None = None
        self._lock = threading.Lock()  #: between arming a line and replacing it
        self._stopped = threading.Event()
        self._replace()  # now: a task may never let the thread run
        self._thread = threading.Thread(target=self._run, name="engine-redis-lease", daemon=True)
        self._thread.start()

    def arm(self) -> None:
        with self._lock:
            self._armed = True
            if self._line is not None:
                self._line.keeper.arm()

    def disarm(self) -> tuple[int, bytes]:
        with self._lock:
            self._armed = False
            line = self._line
            if line is not None and line.keeper.disarm()[1]:
                line.give_up()
        return 0, b""

    def stop(self) -> None:
        if self._pid == os.getpid():  # in a forked child there is no thread
            self._stopped.set()
            self._thread.join(2.0)
        line, self._line = self._line, None
        if line is not None:
            line.close()

    def _run(self) -> None:
        while not self._stopped.wait(self._interval_s / 2):
            if not self._is_good():
                self._replace()

    def _is_good(self) -> bool:
        line = self._line
        if line is None or not line.connected:
            return False
        try:
            for answer in line.answers():
                self._on_renewed(answer)
        except TransportError as error:
            logger.info("the connection that renews the lease is replaced: %s", error)
            return False
        return not line.is_half_spent

    def _replace(self) -> None:
        """A fresh line in the place of the one there is, which stays when that fails."""
        try:
            line = _Line(self._open_wire(), self._renewal, self._interval_s)
        except TransportError as error:
            if not self._failing:
                logger.warning(
                    "claims are not renewed while a task runs, so a long one may be run again elsewhere: %s. "
                    "A process needs two connections to Redis over TLS. Trying again every %g s.",
                    error,
                    self._interval_s / 2,
                )
            self._failing = True
            return
        self._failing = False
        self._on_renewed(line.first_answer)
        with self._lock:
            if self._stopped.is_set():
                old: _Line | None = line
            else:
                old, self._line = self._line, line
                if self._armed:
                    line.keeper.arm()
        if old is not None:
            old.close()


class _Line:
    """A connection with renewals made ahead for it, and the native thread that sends them."""

    def __init__(self, wire: LeaseWire, renewal: bytes, interval_s: float) -> None:
        """Opens it and renews once. Raises TransportError."""
        self._wire = wire
        self._torn = False
        self._count = min(int(COVER_S / interval_s) + 1, MOST_RECORDS)
        try:
            wire.connect()
            wire.send(renewal)
            self.first_answer = self._checked(wire.reply())
            self.keeper = wire.keeper_of(renewal, self._count, interval_s)
        except BaseException:
            wire.abandon()
            raise

    def give_up(self) -> None:
        """The server has long not read, and a record is torn: nothing behind it would be understood."""
        self._torn = True
        self.keeper.stop()

    def answers(self) -> list[Any]:
        """Those that have come, without waiting. Raises TransportError when the line is of no more use."""
        if self.keeper.error or self._torn:
            why = os.strerror(self.keeper.error) if self.keeper.error else "it takes no more bytes"
            raise ConnectionLost(f"lost the connection to Redis at {self._wire.address}: {why}")
        return [self._checked(answer) for answer in self._wire.arrived()]

    def _checked(self, answer: Any) -> Any:
        if self._wire.is_error(answer):
            raise TransportError(f"Redis at {self._wire.address} refused to renew a lease: {answer}")
        return answer

    @property
    def connected(self) -> bool:
        return self._wire.connected

    @property
    def is_half_spent(self) -> bool:
        return self.keeper.sent * 2 > self._count

    def close(self) -> None:
        """Without a word. Never raises."""
        self._wire.abandon()


def renewal_of(owners: str, claims: str, unacked_index: str, token: str, lease_s: float) -> bytes:
    # not EVALSHA: the scripts may be flushed while nobody reads the answers
    return pack("EVAL", RENEW.source, 3, owners, claims, unacked_index, token, lease_s)
