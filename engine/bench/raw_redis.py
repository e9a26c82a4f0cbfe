"""Redis at its own pace: pipelined LPUSH, and a script that claims a batch in one step.

A claimed batch stands in a list of its own until it is dropped, so that none is lost with its process: what a
reliable queue needs at least.
"""

from __future__ import annotations

import os
import socket
from typing import Any

import hiredis

from engine.bench.plan import Plan
from engine.bench.raw_common import ACK_EVERY, Received
from engine.codec import Message, decode_envelope, encode_envelope
from engine.errors import EngineError
from engine.transport.url import BrokerURL, split_failover

_READ_BYTES = 1 << 16  #: into a buffer that stays: room made for each read can cost more than the read
_CHUNK = 100  #: messages in one send

# KEYS queue, held. ARGV how many. The last batch's work is done: drop it, and hold the next.
_CLAIM = """
redis.call('DEL', KEYS[2])
local batch = redis.call('RPOP', KEYS[1], ARGV[1])
if not batch then return {} end
redis.call('RPUSH', KEYS[2], unpack(batch))
return batch
"""


class Link:
    """A connection, logged in, in the URL's database."""

    def __init__(self, url: str) -> None:
        at = BrokerURL.parse(split_failover(url)[0])
        self._socket = socket.create_connection((at.host or "localhost", at.port or 6379), 10.0)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(None)
        self._reader = hiredis.Reader()
        self._received = bytearray(_READ_BYTES)
        try:
            if at.password is not None:
                self.ask("AUTH", *([at.user] if at.user else []), at.password)
            if at.path:
                self.ask("SELECT", at.path)
        except BaseException:
            self._socket.close()
            raise

    def ask(self, *words: str | bytes) -> Any:
        """One command and its answer."""
        self._socket.sendall(hiredis.pack_command(words))
        return self.answer()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def answer(self) -> Any:
        """The next answer. Raises EngineError for an error."""
        while (answer := self._reader.gets()) is False:
            size = self._socket.recv_into(self._received)
            if not size:
                raise EngineError("Redis has closed the connection")
            self._reader.feed(self._received, 0, size)
        if isinstance(answer, hiredis.HiredisError):
            raise EngineError(f"Redis refuses: {answer}")
        return answer

    def close(self) -> None:
        self._socket.close()


class Sender:
    """LPUSH, its answer the confirmation."""

    def __init__(self, plan: Plan) -> None:
        self._link = Link(plan.broker)
        self._queue = plan.queue

    def encode(self, message: Message) -> bytes:
        envelope = encode_envelope(message, message.correlation_id or "")
        packed: bytes = hiredis.pack_command(("LPUSH", self._queue, envelope))
        return packed

    def one_by_one(self, data: bytes, count: int) -> None:
        for _ in range(count):
            self._link.send(data)
            self._link.answer()

    def many(self, data: bytes, count: int, window: int) -> None:
        chunk = min(_CHUNK, window)
        for start in range(0, count, chunk):
            size = min(chunk, count - start)
            self._link.send(data * size)
            for _ in range(size):
                self._link.answer()

    def close(self) -> None:
        self._link.close()


def work(plan: Plan, received: Received) -> None:
    """Claim batches for ever; wait for a single message when there is none."""
    link, queue = Link(plan.broker), plan.queue
    held = f"{queue}.held.{os.getpid()}"
    script = link.ask("SCRIPT", "LOAD", _CLAIM)
    claim = hiredis.pack_command(("EVALSHA", script, "2", queue, held, str(plan.at_once(ACK_EVERY))))
    while True:
        link.send(claim)
        batch = link.answer() or [link.ask("BLMOVE", queue, held, "RIGHT", "LEFT", "0")]
        received(len(batch), lambda first=batch[0]: decode_envelope(first))  # type: ignore[misc]
