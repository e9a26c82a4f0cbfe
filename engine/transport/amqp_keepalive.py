"""Heartbeats of one AMQP connection while user code runs: what the native keeper is given to send.

Plain connections repeat the heartbeat frame. Over TLS a record can only be made by the session, in order, so
records are encrypted ahead, enough for ``COVER_S`` of silence. Those that were not sent stay good until
something else is written; then they must go out first (`before_write`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine._keepalive import Keeper
from engine.codec import HEARTBEAT_FRAME

if TYPE_CHECKING:
    from engine.transport.tls_layer import TlsLayer

#: How long a task over TLS may keep Python from running without losing the connection. Where Python gets to
#: run, records are made again in time (`Transport.refresh`).
COVER_S = 3600.0
#: A broker gives up after two heartbeats of silence. The keeper may be a quarter of its interval late.
INTERVAL = 0.5
#: Over TLS every record is paid for ahead, and it takes fewer of them at this interval: at worst 0.8
#: heartbeats.
TLS_INTERVAL = 0.65


class Keepalive:
    """Arms and disarms one connection's keeper. The thread starts with the first ``arm``."""

    def __init__(self, fd: int, heartbeat_s: float, tls: TlsLayer | None) -> None:
        self._tls = tls
        interval_s = heartbeat_s * (INTERVAL if tls is None else TLS_INTERVAL)
        self._keeper = Keeper(fd, interval_s)
        self._records_wanted = int(COVER_S / interval_s) + 1
        self._ahead: list[bytes] = []  #: TLS records made ahead and not sent
        self._loaded = False
        self._started = False
        self.armed = False

    def arm(self) -> None:
        if self.armed:
            return
        if self._loaded and (self._tls is None or len(self._ahead) > self._records_wanted // 2):
            self._keeper.arm()
        else:
            self._load()
        self.armed = True

    def disarm(self) -> bytes:
        """The rest of a torn record, to be sent before anything else."""
        if not self.armed:
            return b""
        self.armed = False
        sent, rest = self._keeper.disarm()
        if sent and self._tls is not None:
            del self._ahead[:sent]
        return rest

    def before_write(self) -> bytes:
        """What must go out before new bytes. Disarms."""
        rest = self.disarm()
        if not self._ahead:
            return rest
        first = b"".join((rest, *self._ahead))
        self._ahead.clear()
        self._loaded = False
        return first

    def touch(self) -> None:
        self._keeper.touch()

    def stop(self) -> None:
        self._keeper.stop()

    def _load(self) -> None:
        if not self._started:
            self._keeper.start()
            self._started = True
        self._loaded = True
        if self._tls is None:
            self._keeper.arm(repeat=HEARTBEAT_FRAME)
            return
        missing = self._records_wanted - len(self._ahead)
        self._ahead += [self._tls.encrypt(HEARTBEAT_FRAME) for _ in range(missing)]
        self._keeper.arm(records=self._ahead)
