"""RabbitMQ at its own pace: frames made ahead of time on a plain socket.

Received bytes go through the engine's frame decoder, which costs about a microsecond a message.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

from engine.bench.plan import Plan
from engine.bench.raw_common import ACK_EVERY, Received
from engine.codec import (
    PROTOCOL_HEADER,
    Delivery,
    FrameDecoder,
    Message,
    Method,
    encode_acks,
    encode_method,
    encode_publish,
)
from engine.errors import EngineError
from engine.transport.url import BrokerURL, split_failover

PREFETCH = 500
_CHUNK = 100  #: messages in one send
_READ_BYTES = 1 << 18
_IDLE_S = 0.05  #: what is left unacknowledged is acknowledged when nothing came for so long

Items = Sequence[object]


class Link:
    """A connection with one channel open. ``server`` is what the broker said of itself."""

    def __init__(self, url: str) -> None:
        at = BrokerURL.parse(split_failover(url)[0])
        self.socket = socket.create_connection((at.host or "localhost", at.port or 5672), 10.0)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.decoder = FrameDecoder()
        self._early: list[object] = []  #: what came behind an answer that was waited for
        try:
            self.server = self._open(at)
        except BaseException:
            self.socket.close()
            raise

    def _open(self, at: BrokerURL) -> dict[str, Any]:
        """The handshake; what the broker says of itself."""
        self.socket.sendall(PROTOCOL_HEADER)
        server: dict[str, Any] = self.wait(10, 10).args[2]
        login = f"\0{at.user or 'guest'}\0{at.password or 'guest'}"
        self.send(0, 10, 11, {}, "PLAIN", login, "en_US")
        channels, frame_max, _ = self.wait(10, 30).args
        self.send(0, 10, 31, channels, frame_max, 0)  # no heartbeats: a bench is not to be interrupted
        self.decoder.frame_max = frame_max
        self.send(0, 10, 40, at.path or "/", "", False)
        self.wait(10, 41)
        self.ask(20, 10, "")
        return server

    def send(self, channel: int, class_id: int, method_id: int, *fields: Any) -> None:
        self.socket.sendall(encode_method(channel, class_id, method_id, fields))

    def ask(self, class_id: int, method_id: int, *fields: Any) -> Method:
        """A method whose answer has the next number."""
        self.send(1, class_id, method_id, *fields)
        return self.wait(class_id, method_id + 1)

    def wait(self, class_id: int, method_id: int) -> Method:
        """That method, passing over what comes before it."""
        while True:
            items = self.read()
            for index, item in enumerate(items):
                if isinstance(item, Method) and (item.class_id, item.method_id) == (class_id, method_id):
                    self._early = list(items[index + 1 :])
                    return item

    def read(self) -> Items:
        """What came, at least one chunk of bytes. Raises TimeoutError as the socket's time-out says."""
        if self._early:
            items, self._early = self._early, []
            return items
        data = self.socket.recv(_READ_BYTES)
        if not data:
            raise EngineError("the broker has closed the connection")
        items = list(self.decoder.feed(data))
        for item in items:
            if isinstance(item, Method) and (item.class_id, item.method_id) in ((10, 50), (20, 40)):
                raise EngineError(f"the broker refuses: {item.args[1]}")
        return items

    def close(self) -> None:
        """In order: the broker drops what it has not read yet of a connection that just ends."""
        self.send(0, 10, 50, 200, "", 0, 0)
        self.wait(10, 51)
        self.socket.close()

    def declare(self, plan: Plan) -> None:
        kind = {} if plan.queue_type == "classic" else {"x-queue-type": plan.queue_type}
        self.ask(50, 10, 0, plan.queue, False, True, False, False, False, kind)


class Sender:
    """Publishes persistent messages, with confirms if the plan wants them."""

    def __init__(self, plan: Plan) -> None:
        self._link = Link(plan.broker)
        self._link.declare(plan)
        self._link.socket.settimeout(None)
        self._confirm = plan.confirm
        self._sent = 0
        self._all_to = 0  #: every tag up to this one is confirmed
        self._singles: set[int] = set()  #: and these above it
        if self._confirm:
            self._link.ask(85, 10, False)

    def encode(self, message: Message) -> bytes:
        return encode_publish([message])

    def one_by_one(self, data: bytes, count: int) -> None:
        self._send(data, count, 1, 1)

    def many(self, data: bytes, count: int, window: int) -> None:
        self._send(data, count, window, min(_CHUNK, window))

    def _send(self, data: bytes, count: int, window: int, chunk: int) -> None:
        whole, send = data * chunk, self._link.socket.sendall
        for start in range(0, count, chunk):
            size = min(chunk, count - start)
            send(whole if size == chunk else data * size)
            self._sent += size
            if self._confirm:
                self._wait_until_open(window - chunk)
        if self._confirm:
            self._wait_until_open(0)

    def _wait_until_open(self, most: int) -> None:
        while self._sent - self._all_to - len(self._singles) > most:
            for item in self._link.read():
                if isinstance(item, Method) and item.class_id == 60:
                    self._settle(*item.args[:2])

    def _settle(self, tag: int, multiple: bool) -> None:
        if not multiple:
            self._singles.add(tag)
            if tag != self._all_to + 1:
                return
        self._all_to = max(self._all_to, tag)
        while self._all_to + 1 in self._singles:
            self._all_to += 1
        self._singles = {single for single in self._singles if single > self._all_to}

    def close(self) -> None:
        self._link.close()


def work(plan: Plan, received: Received) -> None:
    """Consume for ever, acknowledging in batches."""
    link = Link(plan.broker)
    link.declare(plan)
    at_once = plan.at_once(ACK_EVERY)
    link.ask(60, 10, 0, PREFETCH // ACK_EVERY * at_once, False)
    link.ask(60, 20, 0, plan.queue, "raw", False, False, False, False, {})
    acknowledged, last = 0, 0
    while True:
        link.socket.settimeout(_IDLE_S if last > acknowledged else None)
        try:
            items: Items = link.read()
        except TimeoutError:
            items = ()
        deliveries = [item for item in items if isinstance(item, Delivery)]
        if deliveries:
            received(len(deliveries), lambda first=deliveries[0]: first)  # type: ignore[misc]
            last = deliveries[-1].tag
        if last - acknowledged >= at_once or (last > acknowledged and not items):
            link.socket.sendall(encode_acks(1, [(last, True)]))
            acknowledged = last
