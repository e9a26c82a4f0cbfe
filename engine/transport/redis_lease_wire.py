"""A Redis connection over TLS that can encrypt commands without sending them: the lease's (redis_lease.py).

The transport's own connection is a wrapped socket, which copies less but sends what it encrypts. Here
`TlsLayer` is the session, over a plain socket that the native keepalive writes on.

Rules
-----
* After ``keeper_of`` nothing else is written. A key update that the server asks for is therefore not
  answered; the records, made before, are good all the same.
* The keeper ends before the descriptor is closed, which would soon mean another connection to it.
"""

from __future__ import annotations

import socket
import ssl
from typing import Any

from engine._keepalive import Keeper
from engine.transport.redis_wire import RedisWire, Stream
from engine.transport.tls_layer import TlsLayer

_READ_BYTES = 64 * 1024


class LeaseWire(RedisWire):
    """A wire for ``rediss://`` only."""

    _tls: TlsLayer
    _keeper: Keeper | None = None

    def _wrap(self, plain: socket.socket, context: ssl.SSLContext) -> Stream:
        self._tls = TlsLayer(context, self.address.host)
        return _TlsStream(plain, self._tls, self.connect_timeout)

    def keeper_of(self, command: bytes, count: int, interval_s: float) -> Keeper:
        """One that sends the command ``count`` times, once an interval while it is armed."""
        self._keeper = Keeper(self.fileno(), interval_s)
        self._keeper.arm(records=[self._tls.encrypt(command) for _ in range(count)])
        self._keeper.disarm()  # loaded; without its thread it sent nothing
        self._keeper.start()
        return self._keeper

    def abandon(self) -> None:
        """Close the descriptor without a word. Never raises."""
        if self._keeper is not None:
            self._keeper.stop()
        super().abandon()

    def arrived(self) -> list[Any]:
        """The replies that have come, without waiting. Raises ConnectionLost."""
        found = []
        while True:
            while (answer := self._next()) is not Ellipsis:
                found.append(answer)
            if not self._receive():
                return found


class _TlsStream:
    """A socket's methods, over a session that does not own the socket."""

    def __init__(self, plain: socket.socket, tls: TlsLayer, timeout_s: float) -> None:
        """Shakes hands; ``plain`` has a timeout. Raises OSError, ssl.SSLError among them."""
        self._plain = plain
        self._tls = tls
        self._timeout_s = timeout_s
        done = False
        while not done:
            done = tls.handshake()
            plain.sendall(tls.records())
            if not done:
                records = plain.recv(_READ_BYTES)
                if not records:
                    raise ConnectionError("closed in the TLS handshake")
                tls.feed(memoryview(records))

    def send(self, data: bytes | memoryview, _flags: int = 0, /) -> int:
        """All of it: only a login and a script are sent this way."""
        self._plain.settimeout(self._timeout_s)
        try:
            self._plain.sendall(self._tls.encrypt(bytes(data)))
        finally:
            self._plain.setblocking(False)
        return len(data)

    def recv_into(self, buffer: bytearray, size: int, _flags: int = 0, /) -> int:
        """Raises BlockingIOError when nothing, or no whole record, is there; 0 at the end."""
        records = self._plain.recv(size)
        if not records:
            return 0
        self._tls.feed(memoryview(records))
        data = b"".join(iter(self._tls.decrypt, b""))
        if not data:
            raise BlockingIOError
        buffer[: len(data)] = data  # behind a record that had come in part the buffer may grow
        return len(data)

    def fileno(self) -> int:
        return self._plain.fileno()

    def setblocking(self, flag: bool, /) -> None:
        self._plain.setblocking(flag)

    def close(self) -> None:
        self._plain.close()
