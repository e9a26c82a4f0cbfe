"""`Producer`: messages to the broker, confirmed, with retries under one deadline. No task knowledge.

Rules: a message keeps its id over all retries; a queue is declared once a connection before the first message
to it; no publish, its retries and its waiting included, takes longer than its timeout; an unconfirmed outcome
is raised (or returned, by the batch methods), never swallowed. Safe to use from several threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from engine.broker_link import BrokerLink
from engine.codec import Message
from engine.errors import ConfigurationError, Unroutable
from engine.ids import new_id
from engine.message_body import write_body
from engine.model import QueueSpec
from engine.publish_retry import NEVER, RetryPolicy
from engine.publish_stream import PublishStream
from engine.sender import Declarable, OneLink, Sender
from engine.topology_entities import delivery_mode as mode_number
from engine.topology_entities import exchange_spec, is_queue, queue_spec

#: two of them fill a transport's window of unconfirmed messages
STREAM_BATCH = 500

#: what `publish` may be given that names a queue or an exchange
Entity = Any


class Producer:
    """Publishes messages. Usable from any program::

        with Producer("amqp://localhost") as producer:
            producer.publish({"a": 1}, routing_key="orders")

    Args:
        channel: a broker URL, an app, a connection, a transport, or a pool of links.
        exchange: default exchange (kombu's, a spec, or a name); "" publishes straight to queues.
        routing_key: default routing key.
        serializer: how bodies are written when nothing else is said (json).
        auto_declare: declare the default exchange before its first use.
        compression: how bodies are compressed.
        on_return: called with (error, exchange, routing_key, message) for an unroutable message, in place of
            raising the error.
        confirms: wait until the broker has each message.
        timeout: seconds a publish may take in all; None waits for ever.
        queue_for: gives the queue to declare before a message of that exchange and routing key.
    """

    def __init__(
        self,
        channel: Any,
        exchange: Entity = None,
        routing_key: str | None = None,
        serializer: str | None = None,
        auto_declare: bool = True,
        compression: str | None = None,
        on_return: Callable[[Exception, str, str, Message], None] | None = None,
        *,
        confirms: bool = True,
        timeout: float | None = 30.0,
        queue_for: Callable[[str, str], QueueSpec | None] | None = None,
    ) -> None:
        self._own: BrokerLink | None = None
        if hasattr(channel, "take") and hasattr(channel, "give"):
            self.sender = Sender(channel, confirms)
        else:
            self._own = BrokerLink.to(channel)
            self.sender = Sender(OneLink(self._own), confirms)
        self._closes = isinstance(channel, str) or hasattr(channel, "open_transport")
        self.exchange = exchange_spec(exchange)
        self.routing_key = routing_key or ""
        self.serializer = serializer
        self.compression = compression
        self.auto_declare = auto_declare
        self.on_return = on_return
        self.timeout = timeout
        self._queue_for = queue_for

    # -- life ------------------------------------------------------------------------------------------

    def __enter__(self) -> Producer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection that this producer opened; one it was given stays open."""
        if self._own is not None and self._closes:
            self._own.close()

    release = close

    def declare(self) -> None:
        """Declare the default exchange now."""
        self.maybe_declare(self.exchange)

    def maybe_declare(self, entity: Entity) -> None:
        """Declare a queue or an exchange, unless that was done on this connection before."""
        self.sender.declare(_entities([entity]))

    # -- one message -----------------------------------------------------------------------------------

    def publish(
        self,
        body: Any,
        routing_key: str | None = None,
        delivery_mode: int | str | None = None,
        mandatory: bool | None = None,
        immediate: bool = False,
        priority: int | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        serializer: str | None = None,
        headers: Mapping[str, Any] | None = None,
        compression: str | None = None,
        exchange: Entity = None,
        retry: bool = False,
        retry_policy: Mapping[str, Any] | None = None,
        declare: Sequence[Entity] | None = None,
        expiration: float | None = None,
        timeout: float | None = None,
        confirm_timeout: float | None = None,
        **properties: Any,
    ) -> None:
        """Publish one message (kombu's signature; ``expiration`` and timeouts in seconds).

        ``mandatory`` None means: an error when nobody gets the message, if it is for one queue by name.
        Raises PublishError (Unroutable, PublishRefused, PublishUnknown), ConnectionFailed, EncodeError.
        """
        if immediate:
            raise ConfigurationError("immediate: RabbitMQ has not known such publishing since 3.0")
        message = self.message(
            body,
            routing_key,
            delivery_mode=delivery_mode,
            priority=priority,
            content_type=content_type,
            content_encoding=content_encoding,
            serializer=serializer,
            headers=headers,
            compression=compression,
            exchange=exchange,
            expiration=expiration,
            **properties,
        )
        error = self.send(
            [message],
            declare=self._to_declare(declare, exchange),
            mandatory=message.exchange == "" if mandatory is None else mandatory,
            policy=RetryPolicy.of(retry_policy) if retry else NEVER,
            timeout=min((t for t in (timeout, confirm_timeout) if t is not None), default=self.timeout),
        )[0]
        if error is not None:
            self._raise(error, message)

    def message(
        self,
        body: Any,
        routing_key: str | None = None,
        *,
        delivery_mode: int | str | None = None,
        priority: int | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        serializer: str | None = None,
        headers: Mapping[str, Any] | None = None,
        compression: str | None = None,
        exchange: Entity = None,
        expiration: float | None = None,
        message_id: str | None = None,
        reply_to: Any = None,
        **properties: Any,
    ) -> Message:
        """The message that `publish` would send, for `publish_many`."""
        all_headers = dict(headers or {})
        data, content_type, content_encoding, mime = write_body(
            body,
            serializer or self.serializer,
            content_type,
            content_encoding,
            self.compression if compression is None else compression,
        )
        if mime is not None:
            all_headers["compression"] = mime
        target = self.exchange if exchange is None else exchange_spec(exchange)
        try:
            return Message(
                data,
                content_type=content_type,
                content_encoding=content_encoding,
                headers=all_headers,
                exchange=target.name,
                routing_key=self.routing_key if routing_key is None else routing_key,
                delivery_mode=mode_number(_first(delivery_mode, getattr(exchange, "delivery_mode", None))),
                priority=priority,
                expiration_ms=None if expiration is None else max(0, int(expiration * 1000)),
                message_id=message_id or new_id(),
                reply_to=getattr(reply_to, "name", reply_to),
                **properties,
            )
        except TypeError as error:
            raise ConfigurationError(f"publish: {error}") from None

    # -- many ------------------------------------------------------------------------------------------

    def publish_many(
        self,
        bodies: Iterable[Any],
        routing_key: str | None = None,
        *,
        mandatory: bool | None = None,
        retry: bool = False,
        retry_policy: Mapping[str, Any] | None = None,
        declare: Sequence[Entity] | None = None,
        exchange: Entity = None,
        timeout: float | None = None,
        **options: Any,
    ) -> list[Exception | None]:
        """Publish many with their confirms in flight together; one outcome each, in order: None or the error.

        Every body gets the same options; a `Message` (see `message`) goes as it is. ``bodies`` may be a
        generator of any length: it is asked for the next ones while the broker confirms those before.
        ``timeout`` holds for each batch of 500.
        """
        policy = RetryPolicy.of(retry_policy) if retry else NEVER
        entities = tuple(self._to_declare(declare, exchange))
        with self.stream(policy=policy, timeout=timeout) as stream:
            for batch in _batches(bodies, STREAM_BATCH):
                messages = [
                    item
                    if isinstance(item, Message)
                    else self.message(item, routing_key, exchange=exchange, **options)
                    for item in batch
                ]
                direct = all(message.exchange == "" for message in messages)
                stream.push(messages, entities, direct if mandatory is None else mandatory)
        return stream.outcomes

    def stream(self, *, policy: RetryPolicy = NEVER, timeout: float | None = None) -> PublishStream:
        """Publish batches one behind the other, without waiting for each."""
        return PublishStream(self.sender, policy, self.timeout if timeout is None else timeout)

    def publish_messages(
        self, messages: Sequence[Message], *, policy: RetryPolicy = NEVER, timeout: float | None = None
    ) -> list[Exception | None]:
        """Publish finished messages; one outcome each. Messages to one queue by name are mandatory, and that
        queue is declared first when the producer knows it (``queue_for``)."""
        outcomes: list[Exception | None] = [None] * len(messages)
        limit = self.timeout if timeout is None else timeout
        for direct in (True, False):
            places = [at for at, message in enumerate(messages) if (message.exchange == "") is direct]
            if places:
                group = [messages[at] for at in places]
                found = self.send(
                    group, declare=self._known_queues(group), mandatory=direct, policy=policy, timeout=limit
                )
                for at, outcome in zip(places, found, strict=True):
                    outcomes[at] = outcome
        return outcomes

    def send(
        self,
        messages: Sequence[Message],
        *,
        declare: Sequence[Declarable] = (),
        mandatory: bool = True,
        policy: RetryPolicy = NEVER,
        timeout: float | None = None,
    ) -> list[Exception | None]:
        """Publish finished messages in one batch; one outcome each. Never raises for the broker's sake."""
        return self.sender.send(messages, declare, mandatory, policy, timeout)

    # -- details ---------------------------------------------------------------------------------------

    def _raise(self, error: Exception, message: Message) -> None:
        if isinstance(error, Unroutable) and self.on_return is not None:
            self.on_return(error, message.exchange, message.routing_key, message)
            return
        raise error

    def _to_declare(self, declare: Sequence[Entity] | None, exchange: Entity) -> list[Declarable]:
        entities = _entities(declare or ())
        if self.auto_declare and exchange is None and self.exchange.name:
            entities.append(self.exchange)
        return entities

    def _known_queues(self, messages: Sequence[Message]) -> list[Declarable]:
        if self._queue_for is None:
            return []
        targets = {(message.exchange, message.routing_key) for message in messages}
        return [queue for target in targets if (queue := self._queue_for(*target)) is not None]


def _entities(entities: Iterable[Entity]) -> list[Declarable]:
    return [
        queue_spec(entity) if is_queue(entity) else exchange_spec(entity) for entity in entities if entity
    ]


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
