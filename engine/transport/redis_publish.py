"""A batch of messages into Redis: one LPUSH a list, all in one pipeline, and one outcome a message.

Rules: a message that goes to several queues gets a delivery tag of its own in each, since ``unacked`` is
keyed by it; a message for later is parked, atomically, never sent and then moved; nothing is answered for a
message before the server has answered for its command.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.codec import Message, encode_command, encode_envelope, encode_push
from engine.errors import (
    CodecError,
    ConnectionLost,
    MessageTooLarge,
    PublishRefused,
    PublishUnknown,
    Unroutable,
)
from engine.ids import new_id
from engine.transport.redis_layout import Layout
from engine.transport.redis_router import RedisRouter
from engine.transport.redis_scripts import PARK_NEW
from engine.transport.redis_session import RedisSession, evalsha
from engine.transport.redis_wire import pack, pack_word

logger = logging.getLogger("engine.transport.redis")

_CHUNK_MESSAGES = 1000
_CHUNK_BYTES = 8 * 1024 * 1024
_MOST_HEADS = 256
_LPUSH = pack_word("LPUSH")
_MOST_OWED = 256  #: replies to unconfirmed messages that may be under way

Outcomes = list[Exception | None]


@dataclass(slots=True)
class _Command:
    """One command of the pipeline, and the messages its reply answers for."""

    data: bytes
    indexes: list[int]
    receivers: bool = False  #: the reply counts who got it: none means unroutable


@dataclass(slots=True)
class _Batch:
    """What is to be sent, gathered by where it goes."""

    lists: dict[str, tuple[list[int], list[bytes]]] = field(default_factory=dict)
    parked: dict[str, tuple[list[int], list[Any]]] = field(default_factory=dict)
    published: list[_Command] = field(default_factory=list)


def ending(queue: str) -> bytes:
    """The end of a message's ``unacked`` value: the default exchange and the queue."""
    name = "".join(
        char if " " <= char <= "~" and char not in '"\\' else f"\\u{ord(char):04x}" for char in queue
    )
    return f',"","{name}"]'.encode()


class RedisPublisher:
    """Publishes for one transport, on its session."""

    def __init__(self, layout: Layout, router: RedisRouter, visibility_s: float, max_size: int) -> None:
        self._layout = layout
        self._router = router
        self._visibility_s = visibility_s
        self._max_size = max_size
        self._heads: dict[tuple[str, int | None], bytes] = {}  #: LPUSH up to its message
        self._looks_for: RedisSession | None = None
        self._look: Callable[[Any], None] = lambda answer: None

    def publish(
        self,
        session: RedisSession,
        messages: Sequence[Message],
        confirm: bool,
        mandatory: bool,
        timeout: float,
    ) -> Outcomes:
        """As `Transport.publish`."""
        outcomes: Outcomes = [None] * len(messages)
        if not messages:
            return outcomes
        self._look_up(session, messages, mandatory)
        batch = _Batch()
        now = time.time()
        for index, message in enumerate(messages):
            try:
                self._plan(batch, index, message, mandatory, now)
            except (CodecError, PublishRefused, Unroutable) as error:
                outcomes[index] = error
        self._send(session, self._commands(batch), outcomes, confirm, mandatory, timeout)
        return outcomes

    def publish_one(
        self, session: RedisSession, message: Message, confirm: bool, mandatory: bool, timeout: float
    ) -> Exception | None:
        """As `Transport.publish_one`: in few steps where it goes straight to one known queue, and now."""
        queue = message.routing_key
        if (
            message.exchange
            or message.due_at is not None
            or len(message.body) > self._max_size
            or (mandatory and not self._router.exists(queue))
        ):
            return self.publish(session, (message,), confirm, mandatory, timeout)[0]
        head = self._heads.get((queue, message.priority)) or self._head(queue, message.priority)
        try:
            command = encode_push(head, message, new_id())
        except CodecError as error:
            return error
        if not confirm:
            self._send_later(session, command, timeout)
            return None
        session.settle(timeout)  # nothing of ours is sent yet: a loss here is raised
        wire = session.wire
        wire.send(command)
        try:
            answer = wire.reply(timeout)
        except ConnectionLost:
            return _unknown()
        return _refusal(answer) if wire.is_error(answer) else None

    def _head(self, queue: str, priority: int | None) -> bytes:
        """Made once for each of the queues and priorities that come again."""
        if len(self._heads) >= _MOST_HEADS:
            self._heads.clear()
        key = self._layout.list_for(queue, priority).encode()
        head = self._heads[queue, priority] = b"*3\r\n" + _LPUSH + pack_word(key)
        return head

    def _send_later(self, session: RedisSession, command: bytes, timeout: float) -> None:
        """Without waiting for its reply; those of many are read together, before they fill the socket."""
        if session.owed >= _MOST_OWED:
            session.settle(timeout)
        session.later(command, self._log_refusal(session))

    def _look_up(self, session: RedisSession, messages: Sequence[Message], mandatory: bool) -> None:
        exchanges = {message.exchange for message in messages if message.exchange}
        queues = {message.routing_key for message in messages if not message.exchange} if mandatory else ()
        self._router.look_up(session, queues=queues, exchanges=exchanges)
        unbound = {
            message.exchange
            for message in messages
            if message.exchange
            and not self._router.is_fanout(message.exchange)
            and not self._router.targets(message.exchange, message.routing_key)
        }
        if unbound:  # what is believed of a table may be older than a binding
            self._router.look_up(session, exchanges=unbound, fresh=True)

    def _plan(self, batch: _Batch, index: int, message: Message, mandatory: bool, now: float) -> None:
        if len(message.body) > self._max_size:
            raise MessageTooLarge(
                f"a message of {len(message.body)} bytes is over max_message_size, {self._max_size} bytes"
            )
        exchange, key = message.exchange, message.routing_key
        if exchange and self._router.is_fanout(exchange):
            self._plan_fanout(batch, index, message, now)
            return
        targets = self._router.targets(exchange, key)
        if mandatory and (not targets or (not exchange and not self._router.exists(key))):
            what = f"exchange {exchange!r} for the key {key!r}" if exchange else f"the name {key!r}"
            raise Unroutable(f"no queue is bound to {what}: declare the queue first")
        due_at = message.due_at
        for queue in targets:
            tag = new_id()
            data = encode_envelope(message, tag)
            if due_at is not None and due_at > now:
                indexes, words = batch.parked.setdefault(queue, ([], []))
                words += (tag, repr(due_at), data)
                indexes.append(index)
            else:
                place = self._layout.list_for(queue, message.priority)
                indexes, found = batch.lists.setdefault(place, ([], []))
                indexes.append(index)
                found.append(data)

    def _plan_fanout(self, batch: _Batch, index: int, message: Message, now: float) -> None:
        if message.due_at is not None and message.due_at > now:
            raise PublishRefused("a message to a fanout exchange cannot be delayed on Redis: nobody keeps it")
        topic = self._layout.fanout_topic(message.exchange, message.routing_key)
        data = pack("PUBLISH", topic, encode_envelope(message, new_id()))
        batch.published.append(_Command(data, [index], receivers=True))

    # -- commands --------------------------------------------------------------------------------------

    def _commands(self, batch: _Batch) -> list[_Command]:
        commands = batch.published
        for place, (indexes, found) in batch.lists.items():
            key = place.encode()
            for start, stop in _chunks(found):
                commands.append(_Command(_lpush(key, found[start:stop]), indexes[start:stop]))
        for queue, (indexes, words) in batch.parked.items():
            for start in range(0, len(indexes), _CHUNK_MESSAGES):
                part = slice(3 * start, 3 * (start + _CHUNK_MESSAGES))
                commands.append(
                    _Command(self._park(queue, words[part]), indexes[start : start + _CHUNK_MESSAGES])
                )
        return commands

    def _park(self, queue: str, words: list[Any]) -> bytes:
        layout = self._layout
        keys = [layout.unacked, layout.unacked_index, layout.delayed_prefix + queue]
        return evalsha(PARK_NEW, keys, [self._visibility_s, ending(queue), *words])

    # -- replies ---------------------------------------------------------------------------------------

    def _send(
        self,
        session: RedisSession,
        commands: list[_Command],
        outcomes: Outcomes,
        confirm: bool,
        mandatory: bool,
        timeout: float,
    ) -> None:
        if not commands:
            return
        if not confirm:
            for command in commands:
                self._send_later(session, command.data, timeout)
            return
        session.settle(timeout)  # nothing of ours is sent yet: a loss here is raised
        unknown = self._exchange(session, commands, outcomes, mandatory, timeout)
        for command in unknown:
            for index in command.indexes:
                outcomes[index] = _unknown()

    def _exchange(
        self,
        session: RedisSession,
        commands: list[_Command],
        outcomes: Outcomes,
        mandatory: bool,
        timeout: float,
    ) -> list[_Command]:
        """Send, read all answers, judge them; the commands whose answer never came."""
        waiting, unscripted = list(commands), []
        try:
            session.wire.send(b"".join(command.data for command in commands))
            while waiting:
                answer = session.wire.reply(timeout)
                command = waiting.pop(0)
                if session.is_missing(answer):
                    unscripted.append(command)
                else:
                    self._judge(session, command, answer, outcomes, mandatory)
            if unscripted:
                session.ask(pack("SCRIPT", "LOAD", PARK_NEW.source))
        except ConnectionLost:
            return waiting + unscripted
        return self._exchange(session, unscripted, outcomes, mandatory, timeout) if unscripted else []

    def _judge(
        self, session: RedisSession, command: _Command, answer: Any, outcomes: Outcomes, mandatory: bool
    ) -> None:
        error: Exception | None = None
        if session.wire.is_error(answer):
            error = _refusal(answer)
        elif command.receivers and mandatory and answer == 0:
            error = Unroutable("nobody listens to this fanout exchange")
        if error is not None:
            for index in command.indexes:
                outcomes[index] = error

    def _log_refusal(self, session: RedisSession) -> Callable[[Any], None]:
        """What looks at the replies of one session's unconfirmed messages."""
        if self._looks_for is not session:
            is_error = session.wire.is_error

            def look(answer: Any) -> None:
                if is_error(answer):
                    logger.error("Redis refused a message that was published without a confirm: %s", answer)

            self._looks_for, self._look = session, look
        return self._look


def _unknown() -> PublishUnknown:
    return PublishUnknown("the connection to Redis broke before the answer: publish again with the same id")


def _refusal(answer: Any) -> PublishRefused:
    return PublishRefused(f"Redis refused the message: {answer}")


def _lpush(key: bytes, found: Sequence[bytes]) -> bytes:
    return encode_command((b"LPUSH", key, *found))


def _chunks(found: list[bytes]) -> list[tuple[int, int]]:
    """Ranges of at most so many messages and bytes, each of at least one message."""
    ranges = []
    start = size = 0
    for index, data in enumerate(found):
        if index > start and (index - start >= _CHUNK_MESSAGES or size + len(data) > _CHUNK_BYTES):
            ranges.append((start, index))
            start, size = index, 0
        size += len(data)
    ranges.append((start, len(found)))
    return ranges
