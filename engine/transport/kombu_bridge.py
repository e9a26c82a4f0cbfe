"""``kombu+<url>``: any broker kombu speaks (``kombu+sqs://``, ``kombu+mongodb://``, ``kombu+filesystem://``).

What kombu can't do shows in the capabilities: no confirms, no word of an unroutable message, no time to live.
A delayed message carries its due time in a header and is held, unacknowledged, by whoever receives it early,
as Celery does. Most of these brokers are polled.

Rules
-----
* Deliveries not settled are given back when the connection is closed *or abandoned*: some of kombu's
  transports keep them nowhere else.
* A forked child doesn't touch what it inherits. kombu's connections can't be closed in silence, so their
  descriptors stay open there.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import select
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from queue import Empty
from typing import Any, ClassVar

from engine.codec import Delivery, Message
from engine.errors import (
    AccessRefused,
    ConfigurationError,
    ConnectionFailed,
    ConnectionLost,
    DeclareConflict,
    MissingExtra,
    PublishRefused,
    QueueNotFound,
    TransportClosed,
    TransportError,
)
from engine.masking import mask_text
from engine.model import BindingSpec, ExchangeSpec, QueueSpec, QueueState
from engine.transport.base import Capabilities, Transport, TransportOptions
from engine.transport.embedded import too_large
from engine.transport.kombu_messages import delivery_of, due_at_of, prepared
from engine.transport.url import UNQUOTED, BrokerURL, mask_url

#: An idle consumer asks this often, less often the longer nothing comes.
_FIRST_POLL_S = 0.02
_LAST_POLL_S = 0.2

#: Connections inherited by a forked child: never used, never closed, never collected.
_inherited: list[Any] = []


class KombuTransport(Transport):
    """One kombu connection with a channel for each direction."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        name="kombu",
        confirms=False,
        mandatory=False,
        exchanges=frozenset({"direct", "topic"}),
        priorities=False,
        expiration=False,
    )

    def __init__(self, url: str, options: TransportOptions | None = None) -> None:
        super().__init__(url, options)
        self._kombu_url = url.partition("+")[2]
        if self._kombu_url.startswith("memory"):
            inside = replace(self.capabilities, survives_restart=False, crosses_processes=False)
            self.capabilities = inside  # type: ignore[misc]  # the one broker of kombu's that is no broker
        self._connection: Any = None
        self._consuming_channel: Any = None
        self._publishing_channel: Any = None
        self._tags: dict[str, str] = {}
        self._queues: tuple[str, ...] = ()
        self._prefetch = 0
        self._arrived: deque[Delivery] = deque()
        self._early: list[tuple[float, int, Delivery]] = []  # a heap by due time
        self._unsettled: dict[Any, Delivery] = {}
        self._order = itertools.count()

    # -- life ------------------------------------------------------------------------------------------

    def connect(self) -> None:
        if self.connected:
            return
        try:
            connection = self._kombu_connection()
            connection.connect()
            self._publishing_channel = connection.channel()
            self._consuming_channel = connection.channel()
        except ConfigurationError:
            raise
        except (ImportError, KeyError) as error:
            scheme = self._kombu_url.partition(":")[0]
            raise MissingExtra(
                f"kombu cannot speak {mask_url(self._kombu_url)!r}: {error}; install what it needs for that, "
                f"e.g. pip install 'kombu[{scheme}]'"
            ) from error
        except Exception as error:  # each of kombu's transports has errors of its own
            if isinstance(error, ValueError) and _unreadable(self._kombu_url):
                raise ConfigurationError(
                    f"kombu cannot read {mask_url(self._kombu_url)!r} as a URL; {UNQUOTED}"
                ) from None  # the words of the error hold a piece of the password
            kind = AccessRefused if "refused" in type(error).__name__.lower() else ConnectionFailed
            raise kind(f"cannot connect to {mask_url(self._kombu_url)}: {mask_text(str(error))}") from error
        self._connection = connection
        self._pid = os.getpid()
        self.epoch += 1
        if self._queues:
            self.consume(self._queues, self._prefetch)

    def _kombu_connection(self) -> Any:
        from kombu import Connection

        if not self._kombu_url:
            raise ConfigurationError(f"{mask_url(self.url)!r} names no broker: write e.g. kombu+sqs://")
        return Connection(
            self._kombu_url,
            connect_timeout=self.options.connect_timeout,
            heartbeat=0,  # nobody would send them while a task runs
            ssl=dict(self.options.ssl) if isinstance(self.options.ssl, dict) else self.options.ssl,
            transport_options=dict(self.options.extra),
        )

    def close(self) -> None:
        self.abandon()
        self._queues = ()

    def abandon(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self._pid != os.getpid():
            _inherited.extend(
                (connection, self._consuming_channel, self._publishing_channel, self._unsettled)
            )
        else:
            for delivery in self._unsettled.values():
                with contextlib.suppress(Exception):
                    delivery.context.requeue()
            raw = connection.connection
            with contextlib.suppress(Exception):
                connection.close()
            with contextlib.suppress(
                Exception
            ):  # a last word of the broker can make close() give up half-way
                raw.collect()
        self._consuming_channel = self._publishing_channel = None
        self._unsettled = {}
        self._arrived.clear()
        self._early.clear()
        self._tags = {}

    @property
    def connected(self) -> bool:
        return self._connection is not None and self._pid == os.getpid()

    @contextlib.contextmanager
    def _talking(self, what: str) -> Iterator[Any]:
        """The consuming channel, with kombu's errors turned into ours."""
        self._check_owner()
        if self._connection is None:
            raise TransportClosed(f"{mask_url(self.url)} is closed: connect() first")
        try:
            yield self._consuming_channel
        except TransportError:
            raise
        except self._connection.channel_errors as error:
            self._renew_channels()
            raise _channel_error(error, what) from error
        except self._connection.connection_errors as error:
            raise ConnectionLost(f"{mask_url(self.url)}: {mask_text(str(error))}") from error

    def _renew_channels(self) -> None:
        """A broker closes the channel of a failed call; kombu's virtual ones stay open."""
        if getattr(self._consuming_channel, "is_open", True) is False:
            self._consuming_channel = self._connection.channel()
        if getattr(self._publishing_channel, "is_open", True) is False:
            self._publishing_channel = self._connection.channel()

    # -- topology --------------------------------------------------------------------------------------

    def declare(self, queue: QueueSpec) -> QueueState:
        # kombu's virtual brokers can only delete a queue that is bound to something
        own = BindingSpec(ExchangeSpec(queue.name), queue.name)
        bindings = [binding for binding in queue.bindings if binding.exchange.name] or [own]
        with self._talking(f"queue {queue.name!r}") as channel:
            for binding in bindings:
                self.declare_exchange(binding.exchange)
            channel.queue_declare(
                queue=queue.name,
                durable=queue.durable,
                exclusive=queue.exclusive,
                auto_delete=queue.auto_delete,
                arguments=dict(queue.arguments) or None,
            )
            for binding in bindings:
                channel.queue_bind(
                    queue=queue.name,
                    exchange=binding.exchange.name,
                    routing_key=binding.routing_key,
                    arguments=dict(binding.arguments) or None,
                )
        return self.queue_state(queue.name)

    def declare_exchange(self, exchange: ExchangeSpec) -> None:
        from kombu.transport.virtual.base import NotEquivalentError

        with self._talking(f"exchange {exchange.name!r}") as channel:
            try:
                channel.exchange_declare(
                    exchange=exchange.name,
                    type=exchange.type,
                    durable=exchange.durable,
                    auto_delete=exchange.auto_delete,
                    arguments=dict(exchange.arguments) or None,
                )
            except NotEquivalentError as error:
                raise DeclareConflict(
                    f"exchange {exchange.name!r} exists with other properties: {error}"
                ) from error

    def delete_queue(self, name: str) -> int:
        try:
            dropped = self.queue_state(name).ready
        except QueueNotFound:
            return 0
        with self._talking(f"queue {name!r}") as channel:
            channel.queue_delete(queue=name)
        return dropped

    def purge(self, name: str) -> int:
        self.queue_state(name)
        with self._talking(f"queue {name!r}") as channel:
            return int(channel.queue_purge(queue=name) or 0)

    def queue_state(self, name: str) -> QueueState:
        with self._talking(f"queue {name!r}") as channel:
            declared = channel.queue_declare(queue=name, passive=True)
        return QueueState(name, ready=int(declared.message_count or 0))

    # -- publish ---------------------------------------------------------------------------------------

    def publish(
        self,
        messages: Sequence[Message],
        *,
        confirm: bool = True,
        mandatory: bool = True,
        timeout: float | None = None,
    ) -> list[Exception | None]:
        return [self._publish_one(message) for message in messages] if messages else []

    def _publish_one(self, message: Message) -> Exception | None:
        error = too_large(message, self.options.max_message_size)
        if error is not None:
            return error
        try:
            with self._talking(f"exchange {message.exchange!r}"):
                channel = self._publishing_channel
                channel.basic_publish(prepared(channel, message), message.exchange, message.routing_key)
        except (ConnectionLost, TransportClosed):
            raise
        except TransportError as failure:
            return PublishRefused(str(failure))
        return None

    # -- consume ---------------------------------------------------------------------------------------

    def consume(self, queues: Sequence[str], prefetch: int) -> None:
        for name in queues:
            self.queue_state(name)
        self.cancel()
        self._queues = tuple(queues)
        self._prefetch = prefetch
        with self._talking("the queues to consume") as channel:
            self._set_prefetch()
            for name in queues:
                tag = self._tags[name] = f"{self.options.client_name}-{next(self._order)}"
                channel.basic_consume(
                    queue=name, no_ack=False, consumer_tag=tag, callback=self._receiver(channel, name)
                )

    def _receiver(self, channel: Any, queue: str) -> Any:
        def arrive(raw: Any) -> None:
            self._file(delivery_of(channel.message_to_python(raw), queue, self.epoch))

        return arrive

    def _file(self, delivery: Delivery) -> None:
        """Put it where `receive` finds it, now or when it is due."""
        self._unsettled[delivery.tag] = delivery
        due_at = due_at_of(delivery.context)
        if due_at is None or due_at <= time.time():
            self._arrived.append(delivery)
        else:
            heapq.heappush(self._early, (due_at, next(self._order), delivery))
            self._set_prefetch()

    def _set_prefetch(self) -> None:
        """Those that wait for their time don't count."""
        count = self._prefetch + len(self._early) if self._prefetch else 0
        self._consuming_channel.basic_qos(0, count, False)

    def cancel(self) -> None:
        with self._talking("the consumers") as channel:
            for tag in self._tags.values():
                channel.basic_cancel(tag)
        self._tags = {}
        self._queues = ()

    def receive(self, timeout: float, limit: int = 0) -> list[Delivery]:
        deadline_mono_s = time.monotonic() + timeout
        pause_s = _FIRST_POLL_S
        with self._talking("the queues consumed"):
            while True:
                self._drain(limit)
                if self._arrived:
                    count = min(limit, len(self._arrived)) if limit else len(self._arrived)
                    return [self._arrived.popleft() for _ in range(count)]
                left_s = deadline_mono_s - time.monotonic()
                if left_s <= 0 or self._pause(min(left_s, pause_s)):
                    return []
                pause_s = min(pause_s * 1.5, _LAST_POLL_S)

    def _drain(self, limit: int) -> None:
        """Take what is there, without waiting."""
        while self._early and self._early[0][0] <= time.time():
            self._arrived.append(heapq.heappop(self._early)[2])
            self._set_prefetch()
        while self._tags and not (limit and len(self._arrived) >= limit):
            try:
                self._connection.drain_events(timeout=0)
            except (TimeoutError, Empty, BlockingIOError):
                return

    def _pause(self, seconds: float) -> bool:
        """Sleep; True when one of `wake_fds` is readable."""
        poll = select.poll()
        for fd in self.wake_fds:
            poll.register(fd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def get(self, queue: str) -> Delivery | None:
        self.queue_state(queue)
        with self._talking(f"queue {queue!r}") as channel:
            raw = channel.basic_get(queue, no_ack=False)
            if raw is None:
                return None
            delivery = delivery_of(channel.message_to_python(raw), queue, self.epoch)
            self._unsettled[delivery.tag] = delivery
            return delivery

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        for raw in self._settled(deliveries):
            with self._talking("an acknowledgement"):
                raw.ack()

    def nack(self, deliveries: Sequence[Delivery], *, requeue: bool) -> None:
        for raw in self._settled(deliveries):
            with self._talking("a rejection"):
                if requeue:
                    raw.requeue()
                else:
                    raw.reject()

    def park(self, delivery: Delivery, due_at: float) -> None:
        """Send a copy that carries its due time, then acknowledge: it waits with whoever receives it."""
        if delivery.epoch != self.epoch or delivery.tag not in self._unsettled:
            return
        copy = delivery.to_message()
        copy.exchange, copy.routing_key, copy.due_at = "", delivery.queue, due_at
        error = self._publish_one(copy)
        if error is not None:
            raise error
        self.ack([delivery])

    def _settled(self, deliveries: Sequence[Delivery]) -> list[Any]:
        """kombu's messages of those of this epoch that are still ours."""
        self._check_owner()
        mine = [delivery.tag for delivery in deliveries if delivery.epoch == self.epoch]
        return [self._unsettled.pop(tag).context for tag in mine if tag in self._unsettled]


def _unreadable(url: str) -> bool:
    try:
        BrokerURL.parse(url)
    except ConfigurationError:
        return True
    return False


def _channel_error(error: Exception, what: str) -> TransportError:
    code = str(getattr(error, "reply_code", "") or "")
    said = mask_text(str(getattr(error, "reply_text", "") or error))
    if code == "404":
        return QueueNotFound(f"{what} does not exist: {said}")
    if code == "406":
        return DeclareConflict(f"{what} exists with other arguments: {said}")
    if code == "403":
        return AccessRefused(f"no permission for {what}: {said}")
    return ConnectionLost(f"the broker closed the channel over {what}: {said}")
