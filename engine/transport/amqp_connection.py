"""One AMQP connection: a socket, perhaps TLS on it, and the state machine of `amqp_protocol` fed from it.

Rules
-----
* Writing never waits: whoever waits, waits in ``poll``, or in the read while nothing is unsent, and reads
  whatever comes meanwhile, so that two full buffers cannot hold each other up.
* An exception out of a signal handler in the middle of a send or a read leaves the stream unknown: the next
  use says the connection is lost.
* The same holds for one in the middle of a question: its answer is still to come.
* While the connection is guarded the native keepalive may write to the socket; every write of ours disarms
  it first. Reading needs no such care: the keepalive never reads.
* Silence means a dead peer only after everything that has come was read.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import select
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn, cast

from engine.codec import HEARTBEAT_FRAME, Method
from engine.errors import ConnectionFailed, ConnectionLost
from engine.transport.amqp_endpoint import Endpoint
from engine.transport.amqp_keepalive import Keepalive
from engine.transport.amqp_protocol import AmqpProtocol
from engine.transport.amqp_state import Channel, ChannelClosed, Reply, State
from engine.transport.patience import PATIENCE_S, ReceiveError, be_patient, receive
from engine.transport.url import lookup_name

if TYPE_CHECKING:  # OpenSSL is imported where TLS is wanted: 8 ms and a megabyte
    import ssl

    from engine.transport.tls_layer import TlsLayer

logger = logging.getLogger("engine.transport.amqp")

READ_BYTES = 256 * 1024
CALL_TIMEOUT_S = 30.0  #: a broker that does not answer a declare for so long is as good as gone
CLOSE_TIMEOUT_S = 2.0


class AmqpConnection:
    """Open with ``open``; then ``request``, ``flush``, ``pump`` and ``read``. Not thread-safe."""

    def __init__(self, endpoint: Endpoint, protocol: AmqpProtocol) -> None:
        self.endpoint = endpoint
        self.protocol = protocol
        self.fd = -1
        self._socket: socket.socket | None = None
        self._flags = 0  #: of calls that must not wait
        self._tls: TlsLayer | None = None
        self._tls_errors: tuple[type[Exception], ...] = ()
        self._keepalive: Keepalive | None = None
        self._poll = select.poll()
        # from the system: a page of it takes memory only once something was read into it
        self._buffer = memoryview(mmap.mmap(-1, READ_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        self._unsent = memoryview(b"")
        self._torn = False
        self._last_in = self._last_out = self._looked = 0.0
        self._debug = logger.isEnabledFor(logging.DEBUG)

    # -- open and close ------------------------------------------------------------------------------------

    def open(self) -> None:
        """Raises ConnectionFailed or AccessRefused."""
        endpoint = self.endpoint
        try:
            sock = socket.create_connection(
                (lookup_name(endpoint.host), endpoint.port), endpoint.connect_timeout_s or None
            )
        except TimeoutError:
            raise ConnectionFailed(
                f"no answer from {endpoint} within {endpoint.connect_timeout_s:g} s: check host, port and "
                "firewall"
            ) from None
        except OSError as error:
            raise ConnectionFailed(
                f"cannot connect to {endpoint}: {error.strerror or error}: is the broker running, and are "
                "host and port right?"
            ) from error
        self._flags = be_patient(sock)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._socket, self.fd = sock, sock.fileno()
        self._poll.register(self.fd, select.POLLIN)
        self._last_in = self._last_out = time.monotonic()
        deadline = self._last_in + (endpoint.connect_timeout_s or CALL_TIMEOUT_S)
        try:
            if endpoint.tls is not None:
                self._tls_handshake(endpoint.tls, deadline)
            self._amqp_handshake(deadline)
        except BaseException:
            self.abandon()
            raise
        if self.protocol.heartbeat_s:
            self._bound_silence(sock, self.protocol.heartbeat_s)
            self._keepalive = Keepalive(self.fd, self.protocol.heartbeat_s, self._tls)

    def close(self) -> None:
        """Say goodbye and wait for the answer, but not for long. Never raises."""
        with contextlib.suppress(Exception):
            if self.alive:
                self.protocol.close()
                self.flush()
                deadline = time.monotonic() + CLOSE_TIMEOUT_S
                while self.protocol.state is not State.CLOSED and time.monotonic() < deadline:
                    self.pump(deadline - time.monotonic())
        self.abandon()

    def abandon(self) -> None:
        """Close the descriptor without a word. Never raises."""
        # The thread first: its descriptor number may belong to somebody else a moment later.
        if self._keepalive is not None:
            self._keepalive.stop()
            self._keepalive = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self.fd = -1
        self.protocol.state = State.CLOSED

    @property
    def alive(self) -> bool:
        return self.fd >= 0 and self.protocol.state is State.OPEN and not self._torn

    @property
    def drained(self) -> bool:
        """Whether everything written has gone to the socket."""
        return not self._unsent

    def check(self) -> None:
        """Raises ConnectionLost when the connection can't be used."""
        if not self.alive:
            self._unusable()

    # -- requests ------------------------------------------------------------------------------------------

    def channel(self, number: int, *, confirm: bool = False) -> Channel:
        """The channel of that number, opened if it is not. Raises ConnectionLost."""
        channel = self.protocol.channels.get(number)
        if channel is None:
            expected = self.protocol.open_channel(number, confirm=confirm)
            channel = self.protocol.channels[number]
            self._await_replies(channel, expected)
        return channel

    def request(self, number: int, *frames: bytes) -> list[Method | ChannelClosed]:
        """Send synchronous methods together; their replies, in order. A ChannelClosed is the last that comes:
        what was asked for behind it was not done."""
        channel = self.channel(number)
        for frame in frames:
            self.protocol.send(frame)
        return cast("list[Method | ChannelClosed]", self._await_replies(channel, len(frames)))

    def get(self, number: int, queue: str) -> Reply:
        """The answer to one basic.get."""
        channel = self.channel(number)
        self.protocol.get(number, queue)
        return self._await_replies(channel, 1)[0]

    def _await_replies(self, channel: Channel, count: int) -> list[Reply]:
        replies = channel.replies
        try:
            self.flush()
            answered = self.run_until(
                lambda: len(replies) >= count or channel.closed is not None, time.monotonic() + CALL_TIMEOUT_S
            )
        except (
            BaseException
        ):  # a signal handler's: nobody may take these answers for those to other questions
            self.abandon()
            raise
        if not answered:
            self._lose(ConnectionLost(f"{self.endpoint} did not answer within {CALL_TIMEOUT_S:g} s"))
        answer = list(replies)
        replies.clear()
        return answer

    def run_until(self, done: Callable[[], bool], deadline: float) -> bool:
        """Exchange bytes until ``done``; False at the deadline (monotonic). Raises ConnectionLost."""
        while not done():
            self.check()
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            self.pump(remaining)
        return True

    # -- bytes ---------------------------------------------------------------------------------------------

    def flush(self) -> bool:
        """Send what the state machine has; whether all of it went out. Raises ConnectionLost."""
        data = self.protocol.data_to_send()
        if data:
            self._queue(data)
        return self._send_unsent() if self._unsent else True

    def pump(self, timeout_s: float) -> bool:
        """Wait until bytes come (or the timeout, or the next heartbeat), exchange them; whether any came."""
        due = self.beat(time.monotonic())
        if self._unsent:
            self._poll.modify(self.fd, select.POLLIN | select.POLLOUT)
        elif self._flags and timeout_s >= PATIENCE_S and due >= PATIENCE_S:
            return self.read(waiting=True)
        self._poll.poll(max(0.0, min(timeout_s, due)) * 1000)
        if self._unsent:
            self._poll.modify(self.fd, select.POLLIN)
            self._send_unsent()
        return self.read()

    def read(self, waiting: bool = False) -> bool:
        """Read what has come, without waiting unless told so; whether anything had. Raises ConnectionLost."""
        sock = self._usable()
        self._torn = True
        try:
            size = receive(self.fd, self._buffer) if waiting else sock.recv_into(self._buffer, 0, self._flags)
        except ReceiveError as error:
            self._lose(self._broken(error))
        except OSError as error:
            if waiting:  # a signal's handler raised it
                raise
            if not isinstance(error, BlockingIOError):
                self._lose(self._broken(error))
            size = -1
        return self._take_in(size)

    def _take_in(self, size: int) -> bool:
        """So many bytes of the buffer, none for -1; whether there were any, or the end."""
        self._looked = time.monotonic()
        if size < 0:
            self._torn = False
            return False
        try:
            self._take(self._buffer[:size])
        except self._tls_errors as error:
            self._lose(ConnectionLost(f"TLS with {self.endpoint} broke: {error}"))
        self._torn = False
        if self.protocol.state is State.CLOSED:
            self._end()
        self.flush()
        return True

    def idle_for_writing(self, read_every_s: float) -> bool:
        """Whether the next bytes would leave at once: nothing is unsent, and what the peer sent was read not
        long ago."""
        return (
            not self._unsent
            and not self._torn
            and self.protocol.state is State.OPEN
            and time.monotonic() - self._looked < read_every_s
        )

    def write_now(self, frames: bytes, read_every_s: float) -> bool:
        """Write frames past the state machine's queue: the short way of a publisher. False, and nothing was
        done, unless they are next in line (see `idle_for_writing`) and plain TCP takes them. What the socket
        does not take at once is left unsent. Raises ConnectionLost."""
        keepalive = self._keepalive
        if (
            self._tls is not None
            or (keepalive is not None and keepalive.armed)
            or not self.idle_for_writing(read_every_s)
        ):
            return False
        self._unsent = memoryview(frames)
        self._send_unsent()
        return True

    @property
    def may_answer_shortly(self) -> bool:
        """Whether `answers` may be used: reads wait here, heartbeats do not fall due meanwhile, no log wants
        to hear of each frame, and the next byte begins one."""
        heartbeat_s = self.protocol.heartbeat_s
        return (
            self._flags != 0
            and self._tls is None
            and not self._debug
            and (not heartbeat_s or heartbeat_s >= 4 * PATIENCE_S)
            and self.protocol.decoder.between_frames
        )

    def answers(self, frame: bytes, otherwise: Callable[[], None]) -> bool:
        """Wait for `PATIENCE_S` at most. True when that frame came and nothing else, which is then done with;
        if not, ``otherwise`` is called, and what came is taken in. Raises ConnectionLost."""
        self._usable()
        self._torn = True
        try:
            size = receive(self.fd, self._buffer)
        except ReceiveError as error:
            self._lose(self._broken(error))
        if size == len(frame) and self._buffer[:size] == frame:
            self._torn = False
            self._looked = self._last_in = time.monotonic()
            return True
        otherwise()
        self._take_in(size)
        return False

    def beat(self, now: float) -> float:
        """Send a heartbeat if one is due and see to it that the peer lives; seconds until the next look."""
        heartbeat_s = self.protocol.heartbeat_s
        if not heartbeat_s or self.protocol.state is not State.OPEN:
            return 3600.0
        if now - self._last_in > 2 * heartbeat_s and not self.read():
            self._lose(
                ConnectionLost(
                    f"{self.endpoint} was silent for {now - self._last_in:.0f} s (heartbeat {heartbeat_s} s)"
                )
            )
        due = self._last_out + heartbeat_s / 2 - now
        if due <= 0 and not self._unsent:
            if self._debug:
                logger.debug("%% heartbeat sent")
            self.protocol.send(HEARTBEAT_FRAME)
            self.flush()
            due = heartbeat_s / 2
        return max(due, 0.05)

    def _usable(self) -> socket.socket:
        if self._socket is None or self._torn:
            self._unusable()
        return self._socket

    def _queue(self, data: bytes) -> None:
        if self._keepalive is not None:
            data = self._keepalive.before_write() + (data if self._tls is None else self._tls.encrypt(data))
        elif self._tls is not None:
            data = self._tls.encrypt(data)
        self._unsent = memoryview(bytes(self._unsent) + data if self._unsent else data)

    def _send_unsent(self) -> bool:
        sock = self._usable()
        while self._unsent:
            self._torn = True
            try:
                size = sock.send(self._unsent, self._flags)
            except BlockingIOError:
                self._torn = False
                return False
            except OSError as error:
                self._lose(self._broken(error))
            self._unsent = self._unsent[size:]
            self._torn = False
        self._last_out = time.monotonic()
        if self._keepalive is not None:
            self._keepalive.touch()
        return True

    def _take(self, data: memoryview) -> None:
        protocol, tls = self.protocol, self._tls
        if not data:
            if tls is not None:
                tls.feed_eof()
            protocol.receive_eof()
            return
        self._last_in = time.monotonic()
        if tls is None:
            protocol.receive_data(data)
            return
        tls.feed(data)
        while plain := tls.decrypt():
            protocol.receive_data(plain)
        if records := tls.records():
            first = self._keepalive.before_write() if self._keepalive is not None else b""
            self._unsent = memoryview(bytes(self._unsent) + first + records)

    # -- while user code runs ------------------------------------------------------------------------------

    @property
    def guarded(self) -> bool:
        """Whether nothing is left for `guard` to do."""
        return self._keepalive is None or self._keepalive.armed

    def guard(self) -> None:
        """From here on the native keepalive sends heartbeats, until the next write."""
        if self._keepalive is not None and not self._unsent:
            self._keepalive.arm()

    def unguard(self) -> None:
        """Take the socket back."""
        if self._keepalive is not None:
            rest = self._keepalive.disarm()
            if rest:
                self._unsent = memoryview(rest)

    # -- opening -------------------------------------------------------------------------------------------

    def _tls_handshake(self, context: ssl.SSLContext, deadline: float) -> None:
        import ssl

        from engine.transport.tls_layer import TlsLayer

        self._tls_errors = (ssl.SSLError,)
        tls = TlsLayer(context, self.endpoint.server_hostname)
        try:
            while True:
                done = tls.handshake()
                self._unsent = memoryview(tls.records())
                while self._unsent:
                    self._send_unsent()
                if done:
                    break
                if not self._poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                    raise ConnectionFailed(
                        f"{self.endpoint} did not answer the TLS handshake: is it a TLS port?"
                    )
                size = self._usable().recv_into(self._buffer, 0, self._flags)
                if not size:
                    raise ConnectionFailed(f"{self.endpoint} closed the connection in the TLS handshake")
                tls.feed(self._buffer[:size])
        except ssl.SSLCertVerificationError as error:
            raise ConnectionFailed(
                f"the certificate of {self.endpoint} is not accepted: {error.verify_message}. Give the CA "
                "that signed it (ca_certs), and connect by a host name it was made for"
            ) from error
        except OSError as error:
            if isinstance(error, ConnectionFailed):
                raise
            raise ConnectionFailed(f"no TLS with {self.endpoint}: {error}") from error
        self._tls = tls

    def _amqp_handshake(self, deadline: float) -> None:
        protocol = self.protocol
        try:
            self.flush()
            while protocol.state is not State.OPEN:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    raise ConnectionFailed(
                        f"{self.endpoint} took the connection but is silent ({protocol.state.value}): is it "
                        "a broker, and is it up?"
                    )
                self.pump(remaining)
        except ConnectionLost as error:
            raise ConnectionFailed(str(error)) from None

    @staticmethod
    def _bound_silence(sock: socket.socket, heartbeat_s: int) -> None:
        """Let the kernel give up on a peer that is gone in about the time the heartbeats would."""
        for name, value in (
            ("TCP_KEEPIDLE", heartbeat_s),
            ("TCP_KEEPINTVL", max(1, heartbeat_s // 4)),
            ("TCP_KEEPCNT", 4),
        ):
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), min(value, 32767))
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 2 * heartbeat_s * 1000)

    # -- ends ----------------------------------------------------------------------------------------------

    def _broken(self, error: OSError) -> ConnectionLost:
        return ConnectionLost(f"the connection to {self.endpoint} broke: {error.strerror or error}")

    def _end(self) -> None:
        """The state machine is through: answer what it still wants answered, then raise its reason, if
        any."""
        with contextlib.suppress(OSError):
            data = self.protocol.data_to_send()
            if data and self._socket is not None:
                self._socket.send(self._tls.encrypt(data) if self._tls is not None else data)
        if self.protocol.error is not None:
            self._lose(self.protocol.error)

    def _unusable(self) -> NoReturn:
        self._lose(
            self.protocol.error or ConnectionLost(f"the connection to {self.endpoint} is closed or broken")
        )

    def _lose(self, error: Exception) -> NoReturn:
        if self._debug and self.fd >= 0:
            logger.debug("! %s", error)
        if self.protocol.error is None:
            self.protocol.error = error
        self.abandon()
        raise type(error)(*error.args)
