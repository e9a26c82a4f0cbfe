"""`Consumer`: reading queues from any program, without tasks.

    with Consumer("amqp://localhost", ["orders"]) as consumer:
        for body, message in consumer:
            ...
            message.ack()

Rules: nothing is acknowledged by itself (unless ``no_ack``); a lost connection is opened anew and consuming
goes on, with the broker delivering again what was not acknowledged; a message that cannot be read is logged
and rejected, and does not end the loop.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from engine.broker_link import BROKEN, BrokerLink
from engine.codec import Delivery
from engine.errors import CodecError, ConnectionFailed, TransportError
from engine.message_body import read_body
from engine.model import QueueSpec
from engine.publish_retry import RetryPolicy
from engine.topology_entities import is_queue, queue_spec

logger = logging.getLogger(__name__)

_WAIT_S = 1.0
_RECONNECT = RetryPolicy(max_retries=None, interval_start=0.0, interval_step=0.5, interval_max=10.0)


class ReceivedMessage:
    """One message, as kombu's: its body, headers and properties, and what to do with it."""

    def __init__(self, consumer: Consumer, delivery: Delivery) -> None:
        self._consumer = consumer
        self._payload: Any = _UNREAD
        self.delivery = delivery
        self.acknowledged = False

    def __repr__(self) -> str:
        return f"<ReceivedMessage from {self.delivery.queue!r} {self.delivery.routing_key!r}>"

    @property
    def body(self) -> bytes:
        return self.delivery.body

    @property
    def payload(self) -> Any:
        """The value of the body. Raises ContentDisallowed, DecodeError, MessageTooLarge."""
        if self._payload is _UNREAD:
            self._payload = read_body(self.delivery, self._consumer.accept, self._consumer.max_message_size)
        return self._payload

    def decode(self) -> Any:
        return self.payload

    @property
    def headers(self) -> dict[str, Any]:
        return self.delivery.headers

    @property
    def properties(self) -> dict[str, Any]:
        return self.delivery.properties

    @property
    def content_type(self) -> str | None:
        return self.delivery.content_type

    @property
    def content_encoding(self) -> str | None:
        return self.delivery.content_encoding

    @property
    def delivery_tag(self) -> Any:
        return self.delivery.tag

    @property
    def delivery_info(self) -> dict[str, Any]:
        delivery = self.delivery
        return {
            "exchange": delivery.exchange,
            "routing_key": delivery.routing_key,
            "redelivered": delivery.redelivered,
            "consumer_tag": delivery.consumer_tag,
            "delivery_tag": delivery.tag,
        }

    def ack(self, multiple: bool = False) -> None:
        """It is done with. ``multiple`` is accepted for kombu's sake and acknowledges this one."""
        self._settle("ack")

    def reject(self, requeue: bool = False) -> None:
        """Drop it, or hand it to the dead-letter exchange; with ``requeue`` give it back."""
        self._settle("requeue" if requeue else "reject")

    def requeue(self) -> None:
        """Give it back to its queue."""
        self._settle("requeue")

    def ack_log_error(self, *_: Any, **_ignored: Any) -> None:
        self.ack()

    def _settle(self, how: str) -> None:
        if self.acknowledged:
            raise ValueError("this message was acknowledged, rejected or requeued before")
        self.acknowledged = True
        self._consumer.settle(self.delivery, how)


_UNREAD = object()

Callback = Callable[[Any, ReceivedMessage], Any]


class Consumer:
    """Reads queues.

    Args:
        channel: a broker URL, an app, a connection or a transport.
        queues: names, kombu queues or specs; they are declared, unless ``declare`` is false.
        callbacks: called with (body, message) by `drain_events`, `run` and ``for`` loops.
        accept: serializers or content types that are read; all others are rejected.
        prefetch: messages held ahead.
        on_message: called with the message alone, its body not yet read, in place of the callbacks.
        on_decode_error: called with (message, error) for one that cannot be read; the default rejects it.
        no_ack: acknowledge each as soon as it is there.
    """

    def __init__(
        self,
        channel: Any,
        queues: Any = (),
        callbacks: Sequence[Callback] | None = None,
        accept: Collection[str] | None = None,
        prefetch: int = 10,
        *,
        on_message: Callable[[ReceivedMessage], Any] | None = None,
        on_decode_error: Callable[[ReceivedMessage, Exception], Any] | None = None,
        no_ack: bool = False,
        declare: bool = True,
        max_message_size: int = 128 * 1024 * 1024,
    ) -> None:
        self._link = _reading_link(channel)
        self._closes = not hasattr(channel, "consume") and not hasattr(channel, "link")
        self.queues = [_queue(queue) for queue in ([queues] if _is_one(queues) else queues)]
        self.callbacks: list[Callback] = list(callbacks or ())
        self.accept = accept
        self.prefetch = prefetch
        self.on_message = on_message
        self.on_decode_error = on_decode_error
        self.no_ack = no_ack
        self.max_message_size = max_message_size
        self._declare = declare
        self._consuming = False
        self._stopped = False

    # -- life ------------------------------------------------------------------------------------------

    def __enter__(self) -> Consumer:
        self.consume()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def consume(self, no_ack: bool | None = None) -> None:
        """Declare the queues and start. Raises QueueNotFound, ConnectionFailed."""
        if no_ack is not None:
            self.no_ack = no_ack
        if self._declare:
            self._link.declare_all(self.queues)
        self._link.transport.consume([queue.name for queue in self.queues], self.prefetch)
        self._consuming, self._stopped = True, False

    def qos(self, prefetch_size: int = 0, prefetch_count: int = 0, apply_global: bool = False) -> None:
        """Change how many messages are held ahead."""
        self.prefetch = prefetch_count
        if self._consuming:
            self._link.transport.consume([queue.name for queue in self.queues], self.prefetch)

    def register_callback(self, callback: Callback) -> None:
        self.callbacks.append(callback)

    def add_queue(self, queue: Any) -> QueueSpec:
        """Read one more queue from the next `consume` on."""
        spec = _queue(queue)
        self.queues.append(spec)
        return spec

    def cancel(self) -> None:
        """Take no further messages."""
        if self._consuming and self._link.connected:
            self._link.transport.cancel()
        self._consuming = False

    def stop(self) -> None:
        """End `run` and ``for`` loops after the message at hand; may be called from a callback."""
        self._stopped = True

    def close(self) -> None:
        """Stop; what was not acknowledged goes back to its queue. Never raises."""
        try:
            self.cancel()
        except TransportError as error:  # the queue or the connection is gone already
            logger.debug("consuming could not be cancelled: %s", error)
        if self._closes:
            self._link.close()

    def purge(self) -> int:
        """Drop what is ready in the queues; how many."""
        return sum(self._link.transport.purge(queue.name) for queue in self.queues)

    # -- messages --------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[tuple[Any, ReceivedMessage]]:
        """(body, message) for ever, until `stop`."""
        for message in self._messages(None):
            try:
                body = message.payload
            except CodecError as error:
                self._unreadable(message, error)
                continue
            yield body, message

    def run(self, limit: int | None = None, timeout: float | None = None) -> int:
        """Call the callbacks for every message; how many there were. Ends at ``limit`` messages, after
        ``timeout`` seconds without one, or at `stop`."""
        count = 0
        for message in self._messages(timeout):
            self._handle(message)
            count += 1
            if limit is not None and count >= limit:
                break
        return count

    def drain_events(self, timeout: float | None = None) -> None:
        """Wait for messages and call the callbacks (kombu's name). Raises TimeoutError when none came."""
        deliveries = self._receive(timeout)
        if not deliveries:
            raise TimeoutError(f"no message within {timeout} s")
        for delivery in deliveries:
            self._handle(self._taken(delivery))

    def get(self, queue: Any = None) -> ReceivedMessage | None:
        """Take one message without consuming, or None."""
        name = _queue(queue).name if queue is not None else self.queues[0].name
        delivery = self._link.transport.get(name)
        return None if delivery is None else self._taken(delivery)

    def settle(self, delivery: Delivery, how: str) -> None:
        """Acknowledge, reject or requeue. On a connection that was lost meanwhile it does nothing: the broker
        has given the message to somebody else."""
        if self.no_ack or not self._link.connected:
            return
        transport = self._link.transport
        try:
            if how == "ack":
                transport.ack([delivery])
            else:
                transport.nack([delivery], requeue=how == "requeue")
        except BROKEN as error:
            logger.warning("the connection broke before a message was settled; it will come again: %s", error)
            self._link.drop()

    def _messages(self, timeout: float | None) -> Iterator[ReceivedMessage]:
        self._stopped = False
        while not self._stopped:
            deliveries = self._receive(timeout)
            if not deliveries:
                return
            for at, delivery in enumerate(deliveries):
                if self._stopped:
                    self._give_back(deliveries[at:])
                    return
                yield self._taken(delivery)

    def _receive(self, timeout: float | None) -> list[Delivery]:
        """Deliveries; [] at the timeout or when stopped. Reconnects as often as it takes."""
        deadline = None if timeout is None else time.monotonic() + timeout
        tries = 0
        while not self._stopped:
            left = _WAIT_S if deadline is None else deadline - time.monotonic()
            if left <= 0 and tries:
                return []
            try:
                if not self._consuming or not self._link.connected:
                    self.consume()
                deliveries = self._link.transport.receive(max(0.0, min(left, _WAIT_S)), self.prefetch)
            except (*BROKEN, ConnectionFailed) as error:
                self._link.drop()
                pause = _RECONNECT.pause_s(tries)
                if not _RECONNECT.applies_to(error):
                    raise
                logger.warning("lost the broker, trying again in %.1f s: %s", pause, error)
                time.sleep(pause if deadline is None else max(0.0, min(pause, deadline - time.monotonic())))
                deliveries = []
            if deliveries:
                return deliveries
            tries += 1
        return []

    def _taken(self, delivery: Delivery) -> ReceivedMessage:
        if self.no_ack:
            self._link.transport.ack([delivery])
        return ReceivedMessage(self, delivery)

    def _give_back(self, deliveries: Sequence[Delivery]) -> None:
        if deliveries and not self.no_ack and self._link.connected:
            self._link.transport.nack(deliveries, requeue=True)

    def _handle(self, message: ReceivedMessage) -> None:
        if self.on_message is not None:
            self.on_message(message)
            return
        try:
            body = message.payload
        except CodecError as error:
            self._unreadable(message, error)
            return
        for callback in self.callbacks:
            callback(body, message)

    def _unreadable(self, message: ReceivedMessage, error: Exception) -> None:
        if self.on_decode_error is not None:
            self.on_decode_error(message, error)
            return
        logger.error(
            "a message of queue %r cannot be read and is rejected: %s", message.delivery.queue, error
        )
        if not self.no_ack:
            message.reject()


def _reading_link(channel: Any) -> BrokerLink:
    if hasattr(channel, "connection_for_read"):
        link: BrokerLink = channel.connection_for_read().link
        return link
    return BrokerLink.to(channel)


def _is_one(queues: Any) -> bool:
    return isinstance(queues, str) or is_queue(queues)


def _queue(queue: Any) -> QueueSpec:
    return QueueSpec(queue) if isinstance(queue, str) else queue_spec(queue)
