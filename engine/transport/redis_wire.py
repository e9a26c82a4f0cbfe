"""One connection to a Redis server: bytes out, replies in (RESP 3 through hiredis). Knows no queues.

Rules
-----
* Commands are pipelined: ``send`` never waits, ``reply`` returns the replies in the order of the commands.
* What the server pushes on its own (invalidations, pub/sub) never mixes with the replies: it goes to
  ``on_push``.
* Every wait has a bound; a broken or silent connection raises `ConnectionLost` and is closed.
* An exception out of a signal handler while a reply is due closes it too: the reply is still to come, and
  nobody may take it for his own.
* ``abandon`` closes the descriptor without a word to the server: safe in a forked child.
"""

from __future__ import annotations

import contextlib
import logging
import math
import select
import socket
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from engine.codec import encode_command
from engine.errors import (
    AccessRefused,
    ConnectionFailed,
    ConnectionLost,
    MissingExtra,
    TransportClosed,
    install_hint,
)
from engine.transport.patience import PATIENCE_S, ReceiveError, be_patient, receive
from engine.transport.redis_address import RedisAddress
from engine.transport.url import lookup_name

if TYPE_CHECKING:  # OpenSSL is imported where TLS is wanted: 8 ms and a megabyte
    import ssl

logger = logging.getLogger("engine.transport.redis")

#: of one read, into a buffer that is used again. `recv` makes room for the most that may come, and more than
#: the allocator keeps at hand is a mapping of its own, made and undone for each reply: 13 µs
_RECEIVE_BYTES = 64 * 1024
_AUTH_ERRORS = ("WRONGPASS", "NOAUTH", "NOPERM", "ERR AUTH", "ERR invalid password")
_OLDEST = (6, 2)
Push = Callable[[list[Any]], None]


class Stream(Protocol):
    """What a wire needs of its socket. None of it blocks, with the flags that the wire gives."""

    def send(self, data: bytes | memoryview, flags: int = 0, /) -> int: ...
    def recv_into(self, buffer: bytearray, size: int, flags: int = 0, /) -> int: ...
    def fileno(self) -> int: ...
    def setblocking(self, flag: bool, /) -> None: ...
    def close(self) -> None: ...


def pack(*words: bytes | str | int | float) -> bytes:
    """One command as RESP."""
    return encode_command(words)


def pack_word(word: bytes | str | int | float) -> bytes:
    """One word of a command."""
    data = word if type(word) is bytes else str(word).encode()
    return b"$%d\r\n%b\r\n" % (len(data), data)


def import_hiredis() -> Any:
    """The module. Raises MissingExtra."""
    try:
        import hiredis
    except ImportError:
        raise MissingExtra(f"Redis needs the package hiredis: {install_hint('redis')}") from None
    if not hasattr(hiredis, "PushNotification"):
        raise MissingExtra(f"Redis needs hiredis 3.2 or newer: {install_hint('redis')}")
    return hiredis


class RedisWire:
    """See the module's rules. ``on_push`` gets every push as a list, e.g. ``[b"invalidate", [key]]``."""

    def __init__(
        self,
        address: RedisAddress,
        *,
        client_name: str = "engine",
        connect_timeout: float = 4.0,
        reply_timeout: float = 30.0,
        on_push: Push | None = None,
    ) -> None:
        self.address = address
        self.client_name = client_name
        self.connect_timeout = connect_timeout
        self.reply_timeout = reply_timeout
        self.on_push: Push = on_push or (lambda push: None)
        self._socket: Stream | None = None
        self._reader: Any = None
        self._received = bytearray()
        self._reply_error: type[Exception] = Exception
        self._protocol_error: type[Exception] = Exception
        self._push_type: type[list[Any]] = list
        self._encrypted: ssl.SSLSocket | None = None  #: the socket, when bytes may wait in its TLS layer
        self._would_block: tuple[type[Exception], ...] = (BlockingIOError,)
        self._flags = 0  #: of a plain socket, which blocks without them
        self._readable: select.poll | None = None
        self._waiter: select.poll | None = None
        self._waited_for: tuple[int, ...] = ()

    # -- life ------------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        return self._socket is not None

    def fileno(self) -> int:
        """Raises TransportClosed when not connected."""
        if self._socket is None:
            raise TransportClosed("this Redis connection is closed: connect first")
        return self._socket.fileno()

    def connect(self) -> None:
        """Open, log in, choose the database. Raises ConnectionFailed, AccessRefused, MissingExtra."""
        if self._socket is not None:
            return
        hiredis = import_hiredis()
        self._reply_error = hiredis.ReplyError
        self._protocol_error = hiredis.ProtocolError
        self._push_type = hiredis.PushNotification
        self._reader = hiredis.Reader(notEnoughData=Ellipsis)
        self._received = bytearray(_RECEIVE_BYTES)
        try:
            self._socket = self._open()
            self._log_in()
        except ConnectionLost as error:
            raise ConnectionFailed(f"Redis at {self.address} broke the connection: {error}") from None
        except ConnectionFailed:  # an OSError too
            self.abandon()
            raise
        except OSError as error:
            self.abandon()
            raise ConnectionFailed(f"cannot connect to Redis at {self.address}: {error}") from error
        except BaseException:
            self.abandon()
            raise

    def _open(self) -> Stream:
        address = self.address
        if address.unix_path is not None:
            plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            plain.settimeout(self.connect_timeout)
            plain.connect(address.unix_path)
        else:
            plain = socket.create_connection((lookup_name(address.host), address.port), self.connect_timeout)
            self._tune(plain)
        if address.tls is None:
            self._flags = be_patient(plain)
            return plain
        import ssl

        self._would_block = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
        try:
            wrapped = self._wrap(plain, address.tls)
            wrapped.setblocking(False)
            self._encrypted = wrapped if isinstance(wrapped, ssl.SSLSocket) else None
            return wrapped
        except BaseException:
            plain.close()
            raise

    def _wrap(self, plain: socket.socket, context: ssl.SSLContext) -> Stream:
        return context.wrap_socket(plain, server_hostname=self.address.host)

    def _tune(self, plain: socket.socket) -> None:
        """No delay; a dead peer is noticed by the kernel also while nobody reads."""
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        wanted = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
        for name, value in (*wanted.items(), ("TCP_USER_TIMEOUT", int(self.reply_timeout * 2000))):
            option = getattr(socket, name, None)
            if option is not None:
                with contextlib.suppress(OSError):
                    plain.setsockopt(socket.IPPROTO_TCP, option, value)

    def _log_in(self) -> None:
        address = self.address
        hello: list[str] = ["HELLO", "3"]
        if address.password is not None:
            hello += ["AUTH", address.user or "default", address.password]
        self.send(
            pack(*hello)
            + pack("CLIENT", "SETNAME", _printable(self.client_name))
            + pack("SELECT", address.db)
        )
        greeting, _, selected = (self.reply(self.connect_timeout) for _ in range(3))
        if isinstance(greeting, self._reply_error):
            raise self._refusal(str(greeting))
        self._inspect(greeting if isinstance(greeting, dict) else {})
        if isinstance(selected, self._reply_error):
            raise ConnectionFailed(f"Redis at {address} refused database {address.db}: {selected}")

    def _inspect(self, greeting: dict[bytes, Any]) -> None:
        """Raises ConnectionFailed for a server that cannot do what is needed."""
        major_minor = tuple(
            int(part) for part in greeting.get(b"version", b"").split(b".")[:2] if part.isdigit()
        )
        if major_minor and major_minor < _OLDEST and greeting.get(b"server") == b"redis":
            raise ConnectionFailed(f"Redis at {self.address} is too old: version 6.2 or newer is needed")
        if greeting.get(b"mode") == b"cluster":
            raise ConnectionFailed(
                f"Redis at {self.address} is a Cluster, which queues cannot be kept in: use a single server"
            )
        if greeting.get(b"role") in (b"replica", b"slave"):
            raise ConnectionFailed(f"Redis at {self.address} is a read-only replica: name its master")

    def _refusal(self, answer: str) -> ConnectionFailed:
        if answer.startswith(_AUTH_ERRORS):
            return AccessRefused(
                f"Redis at {self.address} refused the login: {answer}. Check the URL's user and password."
            )
        if "unknown command" in answer.lower() or answer.startswith("NOPROTO"):
            return ConnectionFailed(f"Redis at {self.address} is too old: version 6.2 or newer is needed")
        return ConnectionFailed(f"Redis at {self.address} refused the connection: {answer}")

    def abandon(self) -> None:
        """Close the descriptor without a word. Never raises."""
        opened, self._socket = self._socket, None
        self._encrypted = self._readable = self._waiter = None
        if opened is not None:
            with contextlib.suppress(OSError):
                opened.close()

    # -- traffic ---------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Hand bytes to the kernel. Raises ConnectionLost, TransportClosed."""
        opened = self._socket
        if opened is None:
            raise TransportClosed("this Redis connection is closed: connect first")
        try:
            sent = opened.send(data, self._flags)
        except self._would_block:
            sent = 0
        except OSError as error:
            raise self._lost(error) from error
        if sent < len(data):
            self._send_rest(opened, memoryview(data)[sent:])

    def _send_rest(self, opened: Stream, rest: memoryview) -> None:
        """The socket is full: wait for it, piece by piece."""
        writable = select.poll()
        writable.register(opened.fileno(), select.POLLOUT)
        while rest:
            if not writable.poll(_milliseconds(self.reply_timeout)):
                raise self._lost("it takes no more bytes")
            try:
                rest = rest[opened.send(rest, self._flags) :]
            except self._would_block:
                continue
            except OSError as error:
                raise self._lost(error) from error

    def reply(self, timeout: float | None = None) -> Any:
        """The next reply; an error reply is returned, not raised. Raises ConnectionLost."""
        try:
            answer = self._next()
            if answer is Ellipsis:
                answer = self._awaited(self.reply_timeout if timeout is None else timeout)
            return answer
        except BaseException:
            self.abandon()
            raise

    def _awaited(self, timeout: float) -> Any:
        deadline_mono_s, left_s = time.monotonic() + timeout, timeout
        while True:
            if self._wait_and_receive(left_s):
                answer = self._next()
                if answer is not Ellipsis:
                    return answer
            left_s = deadline_mono_s - time.monotonic()

    def _wait_and_receive(self, left_s: float) -> bool:
        """Feed what comes in that time; False when nothing has come yet. Raises ConnectionLost."""
        if self._flags and left_s >= PATIENCE_S:
            return self._receive_patiently()
        if self._readable is None:
            self._readable = select.poll()
            self._readable.register(self.fileno(), select.POLLIN)
        if not self._pending_tls() and not self._readable.poll(_milliseconds(left_s)):
            raise self._lost("no answer in time")
        return self._receive()

    def replies(self, count: int, timeout: float | None = None) -> list[Any]:
        return [self.reply(timeout) for _ in range(count)]

    def call(self, *words: bytes | str | int | float) -> Any:
        """One command and its reply. Raises ConnectionFailed for an error reply."""
        self.send(pack(*words))
        answer = self.reply()
        if isinstance(answer, self._reply_error):
            raise ConnectionFailed(f"Redis at {self.address} refused {words[0]!r}: {answer}")
        return answer

    def is_error(self, answer: Any) -> bool:
        return isinstance(answer, self._reply_error)

    def poll_pushes(self) -> None:
        """Read what has come without waiting; pushes go to ``on_push``. Only while no reply is due."""
        while True:
            while self._next() is not Ellipsis:
                logger.error("Redis at %s sent a reply nobody asked for", self.address)
            if not self._receive():
                return

    def wait(self, timeout: float, wake_fds: Iterable[int] = ()) -> bool:
        """Until something came from the server, a wake descriptor is readable, or the timeout.

        Whether a wake descriptor is readable."""
        own, key = self.fileno(), tuple(wake_fds)
        if self._waiter is None or self._waited_for != key:
            self._waiter, self._waited_for = select.poll(), key
            for fd in (own, *key):
                self._waiter.register(fd, select.POLLIN)
        wait_ms = 0 if self._pending_tls() else _milliseconds(timeout)
        return any(fd != own for fd, _ in self._waiter.poll(wait_ms))

    def _next(self) -> Any:
        """The next parsed reply, or Ellipsis when more bytes are needed; pushes are dealt with."""
        while True:
            try:
                answer = self._reader.gets()
            except self._protocol_error as error:
                raise self._lost(error) from error
            if not isinstance(answer, self._push_type):
                return answer
            self.on_push(answer)

    def _pending_tls(self) -> bool:
        return self._encrypted is not None and self._encrypted.pending() > 0

    def _receive(self) -> bool:
        """Feed what is there without waiting; False when there is nothing. Raises ConnectionLost."""
        opened = self._socket
        if opened is None:
            raise TransportClosed("this Redis connection is closed: connect first")
        try:
            size = opened.recv_into(self._received, _RECEIVE_BYTES, self._flags)
        except self._would_block:
            return False
        except OSError as error:
            raise self._lost(error) from error
        self._feed(size)
        return True

    def _receive_patiently(self) -> bool:
        """As `_receive`, but it waits for `PATIENCE_S`. Python's functions would wait anew after a signal."""
        try:
            size = receive(self.fileno(), self._received)
        except ReceiveError as error:
            raise self._lost(error) from error
        if size < 0:
            return False
        self._feed(size)
        return True

    def _feed(self, size: int) -> None:
        if not size:
            raise self._lost("closed by the server")
        self._reader.feed(self._received, 0, size)

    def _lost(self, why: object) -> ConnectionLost:
        self.abandon()
        return ConnectionLost(f"lost the connection to Redis at {self.address}: {why}")


def _milliseconds(seconds: float) -> int:
    """For poll(2): never less than asked for."""
    return math.ceil(seconds * 1000) if seconds > 0 else 0


def _printable(name: str) -> str:
    """CLIENT SETNAME refuses blanks and control characters."""
    return "".join(char if "!" <= char <= "~" else "-" for char in name) or "engine"
