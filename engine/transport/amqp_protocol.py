"""AMQP 0-9-1 as a state machine: bytes in, events and bytes out. No socket, no thread, no clock.

Surface: ``receive_data``, ``receive_eof``, ``data_to_send``, ``events_received``; deliveries, of which there
are many, wait in ``deliveries``. What the peer refuses is a value (`ChannelClosed`, or ``error`` once the
connection is closed), never an exception out of here.

Rules: a channel the server closed is answered at once and marked closed; the caller opens it anew. Replies
to synchronous methods come in the order they were asked for, channel by channel.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from engine.codec import (
    PROTOCOL_HEADER,
    Delivery,
    FrameDecoder,
    Heartbeat,
    Method,
    Returned,
    encode_nacks,
    encode_publish,
)
from engine.errors import AccessRefused, ConnectionFailed, ConnectionLost, DecodeError, MessageTooLarge
from engine.transport import amqp_methods as methods
from engine.transport.amqp_confirms import Batch, Confirms, unroutable
from engine.transport.amqp_state import Channel, ChannelClosed, ConsumerCancelled, Event, State

if TYPE_CHECKING:  # it knows of TLS, and so of sockets
    from engine.transport.amqp_endpoint import Endpoint

logger = logging.getLogger("engine.transport.amqp")

FRAME_MAX = 131072
CHANNEL_MAX = 2047
_REFUSED = {403, 530}  # ACCESS_REFUSED; NOT_ALLOWED is what a wrong virtual host gets

CLIENT_PROPERTIES = {
    "product": "engine",
    "platform": "Python",
    "information": "A background-task engine that speaks Celery's protocol",
    "capabilities": {
        "publisher_confirms": True,
        "consumer_cancel_notify": True,
        "basic.nack": True,
        "connection.blocked": True,
        "authentication_failure_close": True,
        "exchange_exchange_bindings": True,
    },
}


class AmqpProtocol:
    """One connection's conversation; see the module's rules."""

    def __init__(self, endpoint: Endpoint, *, max_message_size: int, epoch: int = 0) -> None:
        self.endpoint = endpoint
        self.state = State.START
        self.error: Exception | None = None  #: why the connection is closed, when it was not our wish
        self.blocked: str | None = None  #: the broker's reason while it takes no messages
        self.heartbeat_s = 0
        self.frame_max = FRAME_MAX
        self.server_properties: dict[str, Any] = {}
        self.deliveries: deque[Delivery] = deque()
        self.channels: dict[int, Channel] = {}
        self.decoder = FrameDecoder(FRAME_MAX, max_message_size, epoch)
        self._events: list[Event] = []
        self._out: list[bytes] = [PROTOCOL_HEADER]
        self._heard = False
        self._debug = logger.isEnabledFor(logging.DEBUG)
        self._on: dict[tuple[int, int], Callable[[Method], None]] = {
            methods.CONNECTION_START: self._on_start,
            methods.CONNECTION_SECURE: self._on_secure,
            methods.CONNECTION_TUNE: self._on_tune,
            methods.CONNECTION_OPEN_OK: self._on_open_ok,
            methods.CONNECTION_CLOSE: self._on_connection_close,
            methods.CONNECTION_CLOSE_OK: self._on_connection_close_ok,
            methods.CONNECTION_BLOCKED: self._on_blocked,
            methods.CONNECTION_UNBLOCKED: self._on_unblocked,
            methods.CHANNEL_CLOSE: self._on_channel_close,
            methods.CHANNEL_CLOSE_OK: self._ignore,
            methods.CHANNEL_FLOW: self._on_flow,
            methods.BASIC_CANCEL: self._on_cancel,
            methods.BASIC_ACK: self._on_ack,
            methods.BASIC_NACK: self._on_nack,
        }

    # -- in ------------------------------------------------------------------------------------------------

    def receive_data(self, data: bytes | bytearray | memoryview) -> None:
        """Bytes from the peer, in any chunking."""
        if self.state is State.CLOSED or not data:
            return
        if not self._heard:
            self._heard = True
            if data[0] not in (1, 8):
                self._not_amqp(bytes(data[:8]))
                return
        try:
            items = self.decoder.feed(data)
        except MessageTooLarge as error:
            self._reject(error)
            return
        except DecodeError as error:
            self._fail(ConnectionLost(f"{self.endpoint} sent bytes that are not AMQP 0-9-1: {error}"))
            return
        deliveries = self.deliveries
        for item in items:
            if type(item) is Delivery:
                if item.consumer_tag or not self._is_get_answer(item):
                    deliveries.append(item)
            else:
                self._take(item)

    def receive_eof(self) -> None:
        """The peer closed its end."""
        if self.state is State.CLOSED:
            return
        if self.state is State.CLOSING:
            self.state = State.CLOSED
        elif self.state is State.START:
            self._fail(
                ConnectionFailed(
                    f"{self.endpoint} closed the connection without a word: is it an AMQP port, and does it "
                    "want TLS (amqps://)?"
                )
            )
        elif self.state is State.OPEN:
            self._fail(ConnectionLost(f"{self.endpoint} closed the connection"))
        else:
            # A broker without authentication_failure_close answers wrong credentials with nothing but this.
            self._fail(
                AccessRefused(
                    f"{self.endpoint} closed the connection while {self.state.value}: check the user "
                    f"{self.endpoint.user!r}, its password and the virtual host {self.endpoint.vhost!r}"
                )
            )

    def _take(self, item: Method | Returned | Heartbeat | Delivery) -> None:
        if isinstance(item, Method):
            number = (item.class_id, item.method_id)
            if self._debug:
                logger.debug("< channel %d method %d.%d", item.channel, *number)
            on = self._on.get(number)
            if on is not None:
                on(item)
                return
            channel = self.channels.get(item.channel)
            if channel is not None:
                if number == methods.BASIC_GET_EMPTY:
                    channel.getting -= 1
                channel.replies.append(item)
        elif isinstance(item, Returned):
            self._on_return(item)
        elif self._debug:
            logger.debug("%% heartbeat received")

    def _is_get_answer(self, item: Delivery) -> bool:
        for channel in self.channels.values():
            if channel.getting:
                channel.getting -= 1
                channel.replies.append(item)
                return True
        return False

    # -- out -----------------------------------------------------------------------------------------------

    def events_received(self) -> list[Event]:
        """What happened since the last call, in order."""
        events, self._events = self._events, []
        return events

    def data_to_send(self) -> bytes:
        """Bytes for the peer, in order; b"" when there are none."""
        if not self._out:
            return b""
        data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out.clear()
        return data

    def send(self, frames: bytes) -> None:
        """Frames made by `amqp_methods` or the codec."""
        self._out.append(frames)

    def open_channel(self, number: int, *, confirm: bool = False) -> int:
        """Ask for a channel; how many replies will come. Use it right away: the server keeps the order."""
        channel = self.channels[number] = Channel()
        self.send(methods.channel_open(number))
        if not confirm:
            return 1
        channel.confirms = Confirms()
        self.send(methods.confirm_select(number))
        return 2

    def get(self, number: int, queue: str) -> None:
        self.channels[number].getting += 1
        self.send(methods.basic_get(number, queue))

    def publish(self, number: int, batch: Batch, start: int, stop: int, *, mandatory: bool) -> None:
        """Messages ``start`` to ``stop`` of the batch. Raises EncodeError, then nothing is sent."""
        frames = encode_publish(batch.messages[start:stop], number, self.frame_max, mandatory)
        confirms = self.channels[number].confirms
        if confirms is not None:
            confirms.sent(batch, start, stop)
        self._out.append(frames)
        if self._debug:
            logger.debug("> channel %d publish of %d, %d bytes", number, stop - start, len(frames))

    def close(self) -> None:
        """Ask for an orderly end."""
        if self.state is State.OPEN:
            self.send(methods.connection_close())
            self._enter(State.CLOSING)
        else:
            self._enter(State.CLOSED)

    # -- the handshake -------------------------------------------------------------------------------------

    def _on_start(self, item: Method) -> None:
        self.server_properties = item.args[2]
        offered = _text(item.args[3]).split()
        wanted = self.endpoint.mechanism
        if wanted not in offered:
            self._fail(
                AccessRefused(
                    f"{self.endpoint} does not offer the login {wanted}, only {', '.join(offered)}: set "
                    "login_method, or enable it on the broker"
                )
            )
            return
        secret = f"\0{self.endpoint.user}\0{self.endpoint.password}" if wanted == "PLAIN" else ""
        properties = {**CLIENT_PROPERTIES, "connection_name": self.endpoint.client_name}
        self._enter(State.TUNE)
        self.send(methods.method(0, methods.CONNECTION_START_OK, properties, wanted, secret, "en_US"))

    def _on_secure(self, item: Method) -> None:
        self._fail(
            ConnectionFailed(f"{self.endpoint} asks for a login of several steps: use PLAIN or EXTERNAL")
        )

    def _on_tune(self, item: Method) -> None:
        channel_max, frame_max, heartbeat = item.args
        self.frame_max = min(frame_max or FRAME_MAX, FRAME_MAX)
        self.decoder.frame_max = self.frame_max
        # The broker's 0 means "as you wish"; ours means off.
        wanted = int(self.endpoint.heartbeat_s + 0.999)
        self.heartbeat_s = min(wanted, heartbeat) if heartbeat else wanted
        channels = min(channel_max or CHANNEL_MAX, CHANNEL_MAX)
        self.send(methods.method(0, methods.CONNECTION_TUNE_OK, channels, self.frame_max, self.heartbeat_s))
        self.send(methods.method(0, methods.CONNECTION_OPEN, self.endpoint.vhost, "", False))
        self._enter(State.OPENING)

    def _on_open_ok(self, item: Method) -> None:
        self._enter(State.OPEN)

    # -- the connection ------------------------------------------------------------------------------------

    def _on_connection_close(self, item: Method) -> None:
        code, text = item.args[0], _text(item.args[1])
        self.send(methods.method(0, methods.CONNECTION_CLOSE_OK))
        if code in _REFUSED:
            where = f"user {self.endpoint.user!r}, virtual host {self.endpoint.vhost!r}"
            self._fail(AccessRefused(f"{self.endpoint} refuses access ({where}): {text}"))
        elif self.state is State.OPEN:
            self._fail(ConnectionLost(f"{self.endpoint} closed the connection: {code} {text}"))
        else:
            self._fail(ConnectionFailed(f"{self.endpoint} refused the connection: {code} {text}"))

    def _on_connection_close_ok(self, item: Method) -> None:
        self._enter(State.CLOSED)

    def _on_blocked(self, item: Method) -> None:
        self.blocked = _text(item.args[0]) or "no reason given"
        logger.warning("! %s takes no messages for now: %s", self.endpoint, self.blocked)

    def _on_unblocked(self, item: Method) -> None:
        self.blocked = None
        logger.warning("= %s takes messages again", self.endpoint)

    # -- channels ------------------------------------------------------------------------------------------

    def _on_channel_close(self, item: Method) -> None:
        code, text, class_id, method_id = item.args
        closed = ChannelClosed(item.channel, code, _text(text), class_id, method_id)
        self.send(methods.channel_close_ok(item.channel))
        channel = self.channels.pop(item.channel, None)
        if channel is not None:
            channel.closed = closed
            channel.replies.append(closed)
        self._events.append(closed)
        if self._debug:
            logger.debug("! channel %d closed by the broker: %d %s", item.channel, code, closed.text)

    def _on_flow(self, item: Method) -> None:
        self.send(methods.method(item.channel, methods.CHANNEL_FLOW_OK, item.args[0]))

    def _on_cancel(self, item: Method) -> None:
        self._events.append(ConsumerCancelled(_text(item.args[0])))

    def _on_ack(self, item: Method) -> None:
        channel = self.channels.get(item.channel)
        if channel is not None and channel.confirms is not None:
            channel.confirms.acked(item.args[0], bool(item.args[1]))

    def _on_nack(self, item: Method) -> None:
        channel = self.channels.get(item.channel)
        if channel is not None and channel.confirms is not None:
            channel.confirms.nacked(item.args[0], bool(item.args[1]))

    def _on_return(self, item: Returned) -> None:
        channel = self.channels.get(item.channel)
        if channel is not None and channel.confirms is not None:
            channel.confirms.returned(item)
        else:
            logger.warning("! published without confirm and not delivered: %s", unroutable(item))

    def _ignore(self, item: Method) -> None:
        pass

    # -- ends ----------------------------------------------------------------------------------------------

    def _reject(self, error: MessageTooLarge) -> None:
        """The rest of it won't be read, so the connection ends; and it must not meet the next one."""
        logger.error(
            "! %s: it is rejected, which dead-letters it where its queue has a dead-letter exchange and "
            "drops it else. Raise max_message_size to receive such messages",
            error,
        )
        tag = getattr(error, "delivery_tag", None)
        if tag is not None:
            self.send(encode_nacks(getattr(error, "channel", 1), [(tag, False, False)]))
        self.send(methods.connection_close(311, "content too large"))
        self._fail(ConnectionLost(f"{error}: the message was rejected. Connect again"))

    def _not_amqp(self, start: bytes) -> None:
        if start.startswith(b"AMQP"):
            version = ".".join(str(byte) for byte in start[4:])
            why = f"{self.endpoint} does not speak AMQP 0-9-1 but offers protocol {version}"
        else:
            why = f"{self.endpoint} is not an AMQP broker: it answered with {start!r}"
            if start[:1] in (b"\x15", b"\x16"):
                why += " (TLS: use amqps://)"
        self._fail(ConnectionFailed(why))

    def _fail(self, error: Exception) -> None:
        self.error = error
        self._enter(State.CLOSED)

    def _enter(self, state: State) -> None:
        self.state = state
        if self._debug:
            logger.debug("= %s: %s", self.endpoint, state.value)


def _text(value: str | bytes) -> str:
    """A long string, which the wire does not promise to be text."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
