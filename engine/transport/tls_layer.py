"""TLS between a byte stream and a socket, without owning the socket.

`ssl.MemoryBIO` instead of a wrapped socket lets records be encrypted ahead (heartbeats, lease renewals), so
that the native keepalive can send them while Python cannot run. The price is a rule: records leave in the
order they were made, so what was encrypted ahead and not sent must be sent before anything newer.
"""

from __future__ import annotations

import ssl

_READ_BYTES = 256 * 1024


class TlsLayer:
    """One TLS session: plain bytes on one side, records on the other."""

    def __init__(self, context: ssl.SSLContext, server_hostname: str) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._session = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)

    def handshake(self) -> bool:
        """One step; True when done. Raises ssl.SSLError. ``records`` is then to be sent, done or not."""
        try:
            self._session.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def records(self) -> bytes:
        """What is to be sent to the peer."""
        return self._outgoing.read() if self._outgoing.pending else b""

    def encrypt(self, data: bytes) -> bytes:
        """Records that carry ``data``; earlier ones that were not fetched come first."""
        view = memoryview(data)
        while view:
            view = view[self._session.write(view) :]
        return self._outgoing.read()

    def feed(self, records: memoryview) -> None:
        """Take bytes from the peer."""
        self._incoming.write(records)

    def feed_eof(self) -> None:
        self._incoming.write_eof()

    def decrypt(self) -> bytes:
        """Plain bytes that have come, b"" when a whole record is still missing. Raises ssl.SSLError."""
        try:
            return self._session.read(_READ_BYTES)
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            return b""

    @property
    def version(self) -> str:
        return self._session.version() or "TLS"
