"""Publishing on AMQP: batches in few writes, confirms awaited together, an outcome for each message.

The publishing connection takes no deliveries and no acknowledgements: RabbitMQ stops reading a connection
that published while it is in alarm. Confirmed messages go over one channel, unconfirmed ones over another, so
that a channel the broker closed over an unconfirmed message costs no confirm.
"""

from __future__ import annotations

import logging
import re
import struct
import time
from collections.abc import Callable, Sequence

from engine.codec import Message, encode_publish
from engine.errors import (
    ConnectionLost,
    EncodeError,
    MessageTooLarge,
    PublishRefused,
    PublishUnknown,
    TransportError,
    Unroutable,
)
from engine.transport.amqp_confirms import PENDING, Batch, Confirms
from engine.transport.amqp_connection import AmqpConnection
from engine.transport.amqp_declare import Declarer, queue_state
from engine.transport.amqp_delay import bucket_ms, bucket_queue, delayed
from engine.transport.amqp_methods import BASIC_ACK
from engine.transport.amqp_state import Channel, ChannelClosed
from engine.transport.base import TransportOptions
from engine.transport.patience import PATIENCE_S

logger = logging.getLogger("engine.transport.amqp")

CONFIRMED = 1
UNCONFIRMED = 3
WINDOW = 1000  #: messages outstanding; more do not make RabbitMQ faster
CHUNK = 128  #: messages encoded into one buffer: fewer cost more calls, more come to the broker in fits
CHUNK_BYTES = 1 << 20  #: or so many bytes of bodies
#: what the broker says of unconfirmed messages (alarms, a closed channel) is read this often while they flow
READ_AT_LEAST_EVERY_S = 0.001

#: a method frame that holds basic.ack and its end (sections 2.3.5 and 1.8.3.13 of the specification)
_CONFIRM = struct.Struct(">BHIHHQ?B")
_BAD_EXCHANGE = re.compile(r"(?:no exchange|access to exchange) '(?P<name>[^']*)' in vhost")


class Flight:
    """Messages on their way: what `Publisher.begin` leaves for `Publisher.finish`."""

    __slots__ = (
        "batch",
        "channel",
        "chunk",
        "deadline_mono_s",
        "mandatory",
        "outcomes",
        "sent",
        "todo",
        "wire",
    )

    def __init__(self, wire: list[Message], mandatory: bool, deadline_mono_s: float) -> None:
        self.wire = wire  #: as they go out: what is delayed goes elsewhere first
        self.outcomes: list[Exception | None] = [PENDING] * len(wire)
        self.mandatory = mandatory
        self.deadline_mono_s = deadline_mono_s
        self.todo: list[int] = []  #: the places of those that ``batch`` has sent
        self.batch = Batch(())
        self.chunk = CHUNK
        self.channel: Channel | None = None
        self.sent = 0


class Publisher:
    """Publishes over one connection."""

    def __init__(self, connection: AmqpConnection, declarer: Declarer, options: TransportOptions) -> None:
        self.connection = connection
        self._declarer = declarer
        self._options = options
        self._queue_type = str(options.extra.get("delay_queue_type") or "")
        self._buckets: set[str] = set()
        self._targets: set[str] = set()
        self._deadline_mono_s = 0.0
        self._largest_alone = min(CHUNK_BYTES, options.max_message_size)

    def publish(
        self, messages: Sequence[Message], *, confirm: bool, mandatory: bool, timeout_s: float | None
    ) -> list[Exception | None]:
        """One outcome each. Raises ConnectionLost when nothing was sent."""
        return self.finish(self.begin(messages, confirm=confirm, mandatory=mandatory, timeout_s=timeout_s))

    def begin(
        self, messages: Sequence[Message], *, confirm: bool, mandatory: bool, timeout_s: float | None
    ) -> Flight:
        """Send them; `finish` waits for the outcomes. Raises ConnectionLost when nothing was sent."""
        self._set_deadline(timeout_s)
        flight = Flight(list(messages), mandatory, self._deadline_mono_s)
        limit = self._options.max_message_size
        for index, message in enumerate(messages):
            if len(message.body) > limit:
                flight.outcomes[index] = MessageTooLarge(
                    f"the body has {len(message.body)} bytes, and max_message_size is {limit}"
                )
            elif message.due_at is not None:
                try:
                    flight.wire[index] = self._delayed(message, message.due_at, mandatory)
                except ConnectionLost:
                    raise
                except TransportError as error:
                    flight.outcomes[index] = error
        todo = [index for index, outcome in enumerate(flight.outcomes) if outcome is PENDING]
        self._log_refused()
        if not confirm:
            self._publish_unconfirmed(flight.wire, flight.outcomes, todo, mandatory)
        elif todo:
            self._take_off(flight, todo, CHUNK)
        return flight

    def _publish_unconfirmed(
        self, wire: list[Message], outcomes: list[Exception | None], todo: list[int], mandatory: bool
    ) -> None:
        """Hand all to the socket. Should the broker close the channel over one, those behind it go over the
        next."""
        while todo:
            batch = Batch([wire[index] for index in todo])
            channel, sent = self._send_all(UNCONFIRMED, batch, mandatory, CHUNK)
            if channel is not None and channel.closed is None:
                self._settle_late(UNCONFIRMED, batch, sent)
            for index, outcome in zip(todo, batch.outcomes, strict=True):
                outcomes[index] = None if outcome is PENDING else outcome
            if channel is None or channel.closed is None:
                break
            todo = todo[sent:]
            self._log_refused()

    # -- one alone -----------------------------------------------------------------------------------------

    def publish_one(
        self, message: Message, confirm: bool, mandatory: bool, timeout_s: float | None
    ) -> Exception | None:
        """Its outcome; `PENDING` where something has to be waited for or looked at first (an alarm, a delay,
        unsent bytes, a channel to be opened): then nothing was written. Raises ConnectionLost."""
        connection = self.connection
        protocol = connection.protocol
        number = CONFIRMED if confirm else UNCONFIRMED
        channel = protocol.channels.get(number)
        if (
            channel is None
            or protocol.blocked is not None
            or message.due_at is not None
            or len(message.body) > self._largest_alone
        ):
            return PENDING
        if confirm:
            if not connection.idle_for_writing(READ_AT_LEAST_EVERY_S):
                return PENDING
            confirms = channel.confirms
            shortly = self._wait_s(timeout_s) >= PATIENCE_S and connection.may_answer_shortly
            if shortly and confirms is not None and confirms.idle:
                return self._confirm_shortly(channel, confirms, message, mandatory, timeout_s)
            return self._confirm_one(channel, Batch((message,)), mandatory, timeout_s)
        try:
            frames = encode_publish((message,), number, protocol.frame_max, mandatory)
        except EncodeError as error:
            return error
        if not connection.write_now(frames, READ_AT_LEAST_EVERY_S):
            return PENDING
        if not connection.drained:  # the socket is full: until it has all of it
            self._set_deadline(timeout_s)
            self._wait(lambda: connection.drained or channel.closed is not None)
        return None

    def _confirm_one(
        self, channel: Channel, batch: Batch, mandatory: bool, timeout_s: float | None
    ) -> Exception | None:
        connection = self.connection
        try:
            connection.protocol.publish(CONFIRMED, batch, 0, 1, mandatory=mandatory)
        except EncodeError as error:
            return error
        self._set_deadline(timeout_s)
        try:
            connection.flush()
        except ConnectionLost as error:
            return _unknown(error)
        return self._outcome_of_one(channel, batch)

    def _confirm_shortly(
        self,
        channel: Channel,
        confirms: Confirms,
        message: Message,
        mandatory: bool,
        timeout_s: float | None,
    ) -> Exception | None:
        """As `_confirm_one`, in fewer steps where the broker's next word is the message's confirm and nothing
        else, as it nearly always is: a fifth of a call's CPU. `PENDING` when nothing was written."""
        connection, batch = self.connection, Batch((message,))
        try:
            frames = encode_publish((message,), CONFIRMED, connection.protocol.frame_max, mandatory)
        except EncodeError as error:
            return error
        self._set_deadline(timeout_s)
        confirm = _CONFIRM.pack(1, CONFIRMED, 13, *BASIC_ACK, confirms.next_tag, False, 0xCE)
        try:
            if not connection.write_now(frames, READ_AT_LEAST_EVERY_S):
                return PENDING
            if not connection.drained:
                confirms.sent(batch, 0, 1)
            elif connection.answers(confirm, lambda: confirms.sent(batch, 0, 1)):
                confirms.passed()
                return None
        except ConnectionLost as error:
            return _unknown(error)
        return self._outcome_of_one(channel, batch)

    def _outcome_of_one(self, channel: Channel, batch: Batch) -> Exception | None:
        try:
            self._wait(lambda: batch.pending == 0 or channel.closed is not None)
        except ConnectionLost as error:
            return _unknown(error)
        if batch.pending and channel.closed is not None:
            return _refused(channel.closed, batch.messages[0])
        self._settle_late(CONFIRMED, batch, 1)
        return batch.outcomes[0]

    def _wait_s(self, timeout_s: float | None) -> float:
        return self._options.confirm_timeout if timeout_s is None else timeout_s

    def _set_deadline(self, timeout_s: float | None) -> None:
        self._deadline_mono_s = time.monotonic() + self._wait_s(timeout_s)

    # -- confirmed -----------------------------------------------------------------------------------------

    def _take_off(self, flight: Flight, todo: list[int], chunk: int) -> None:
        flight.todo = todo
        flight.chunk = chunk
        flight.batch = Batch([flight.wire[index] for index in todo])
        flight.channel, flight.sent = self._send_all(CONFIRMED, flight.batch, flight.mandatory, chunk)

    def finish(self, flight: Flight) -> list[Exception | None]:
        """Wait until each has its outcome. The broker closes the channel over a message it can't stomach:
        that one is found and told, the others are published again, perhaps for a second time."""
        outcomes, wire = flight.outcomes, flight.wire
        while flight.todo:
            self._deadline_mono_s = flight.deadline_mono_s
            closed = self._await_confirms(flight)
            for index, outcome in zip(flight.todo, flight.batch.outcomes, strict=True):
                outcomes[index] = outcome
            todo = [index for index in flight.todo if outcomes[index] is PENDING]
            flight.todo = []
            if closed is None or not todo:
                break
            bad = _BAD_EXCHANGE.search(closed.text)
            culprits = [index for index in todo if bad is not None and wire[index].exchange == bad["name"]]
            chunk = flight.chunk
            if not culprits and chunk == 1:
                culprits = todo[:1]
            for index in culprits:
                outcomes[index] = _refused(closed, wire[index])
            if not culprits:
                chunk = 1  # one at a time, the next close is its own message's
            todo = [index for index in todo if outcomes[index] is PENDING]
            if todo:
                self._take_off(flight, todo, chunk)
        return outcomes

    def _send_all(self, number: int, batch: Batch, mandatory: bool, chunk: int) -> tuple[Channel | None, int]:
        """Send the batch: over which channel (None: the connection was lost, and the batch says so), and how
        many. Raises ConnectionLost when nothing was sent."""
        connection = self.connection
        sent = 0
        try:
            channel = connection.channel(number, confirm=number == CONFIRMED)
            while sent < len(batch.messages) and channel.closed is None:
                if not self._may_send(channel, chunk) or channel.closed is not None:
                    break
                stop = _chunk_end(batch.messages, sent, chunk)
                sent = self._send(number, batch, sent, stop, mandatory)
                if not connection.flush():
                    self._wait(lambda: connection.drained or channel.closed is not None)
        except ConnectionLost as error:
            if sent == 0:
                raise
            _settle_unknown(batch, error)
            return None, sent
        return channel, sent

    def _await_confirms(self, flight: Flight) -> ChannelClosed | None:
        """Unless the channel ended, which is returned, no message is left pending."""
        batch, channel, sent = flight.batch, flight.channel, flight.sent
        if channel is None:
            return None

        def settled() -> bool:
            return batch.pending == len(batch.messages) - sent or channel.closed is not None

        try:
            while not settled() and self.connection.read():
                pass  # it may have come in time, while whoever makes the messages was slow to ask for it
            self._wait(settled)
        except ConnectionLost as error:
            _settle_unknown(batch, error)
            return None
        if channel.closed is None:
            self._settle_late(CONFIRMED, batch, sent)
        return channel.closed

    def _may_send(self, channel: Channel, chunk: int) -> bool:
        """Wait while the broker is blocked or too much is outstanding; False at the deadline."""
        window = 1 if chunk == 1 else WINDOW
        protocol, confirms = self.connection.protocol, channel.confirms

        def free() -> bool:
            return protocol.blocked is None and (confirms is None or len(confirms) < window)

        return free() or self._wait(lambda: free() or channel.closed is not None)

    def _send(self, number: int, batch: Batch, start: int, stop: int, mandatory: bool) -> int:
        """Encode and queue that slice; where the next begins. A message that can't be encoded is told
        apart."""
        try:
            self.connection.protocol.publish(number, batch, start, stop, mandatory=mandatory)
        except EncodeError as error:
            if stop - start > 1:
                return self._send(number, batch, start, start + (stop - start) // 2, mandatory)
            batch.settle(start, error)
        return stop

    def _settle_late(self, number: int, batch: Batch, sent: int) -> None:
        """What the deadline left behind: sent and unconfirmed, or never sent."""
        if number != CONFIRMED and sent == len(batch.messages):
            return
        blocked = self.connection.protocol.blocked
        why = f"the broker takes no messages ({blocked})" if blocked else "the broker was too slow"
        for index in range(len(batch.messages)):
            if index >= sent:
                batch.settle(index, PublishRefused(f"{why}; the message was not sent"))
            elif number == CONFIRMED:
                batch.settle(
                    index,
                    PublishUnknown(
                        f"{why}: no confirm in time, so whether the message is stored is not known. Publish "
                        "it again with the same id"
                    ),
                )

    def _wait(self, done: Callable[[], bool]) -> bool:
        return self.connection.run_until(done, self._deadline_mono_s)

    # -- delays --------------------------------------------------------------------------------------------

    def _delayed(self, message: Message, due_at: float, mandatory: bool) -> Message:
        """The message on its way to a bucket. Raises Unroutable when it would be dropped at the end of it."""
        now = time.time()
        remaining_s = due_at - now
        if remaining_s <= 0:
            return message
        if mandatory:
            self._check_target(message)
        wait_ms = bucket_ms(remaining_s)
        bucket = bucket_queue(wait_ms, message.exchange, self._queue_type) if wait_ms else None
        if bucket is not None and bucket.name not in self._buckets:
            self._declarer.queue(self.connection, bucket)
            self._buckets.add(bucket.name)
        return delayed(message, due_at, bucket, now)

    def _check_target(self, message: Message) -> None:
        """Dead-lettering tells nobody when there is no such queue, so it is looked for now."""
        queue = message.routing_key
        if message.exchange or queue in self._targets:
            return
        try:
            queue_state(self.connection, queue)
        except LookupError:
            raise Unroutable(
                f"there is no queue {queue!r} for the message to go to when it is due: declare it first"
            ) from None
        self._targets.add(queue)

    def _log_refused(self) -> None:
        for event in self.connection.protocol.events_received():
            if isinstance(event, ChannelClosed) and event.channel == UNCONFIRMED:
                logger.warning(
                    "! a message published without confirm was refused: %d %s", event.code, event.text
                )


def _chunk_end(messages: Sequence[Message], start: int, chunk: int) -> int:
    size = 0
    stop = min(len(messages), start + chunk)
    for index in range(start, stop):
        size += len(messages[index].body)
        if size > CHUNK_BYTES:
            return index + 1
    return stop


def _settle_unknown(batch: Batch, error: Exception) -> None:
    """The connection broke: whether the broker has what is pending is not known."""
    unknown = _unknown(error)
    batch.settle_rest(lambda message: unknown)


def _unknown(error: Exception) -> PublishUnknown:
    return PublishUnknown(
        f"{error}: whether the message arrived is not known. Publish it again with the same id"
    )


def _refused(closed: ChannelClosed, message: Message) -> Exception:
    if closed.code == 404:
        return Unroutable(f"{closed.text}: declare exchange {message.exchange!r} first, or check the route")
    if closed.code == 406 and "larger than" in closed.text:
        return MessageTooLarge(f"the broker refuses it: {closed.text}")
    return PublishRefused(f"the broker refuses it: {closed.code} {closed.text}")
