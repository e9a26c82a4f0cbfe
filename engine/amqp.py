"""``app.amqp``: Celery's face of queues, routes and messages, for code that was written against it.

It holds no state of its own: kombu entities are made from the app's topology when they are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.codec import encode_task_headers
from engine.dispatch import fill_headers, make_task
from engine.errors import QueueNotFound
from engine.message_body import write_body
from engine.model import QueueSpec, Route
from engine.producer import Producer as _Producer
from engine.publish_retry import NEVER, RetryPolicy

if TYPE_CHECKING:
    from engine.app import Engine


class task_message(NamedTuple):  # noqa: N801 - Celery's name
    """A task as headers, properties and body, not yet serialized."""

    headers: dict[str, Any]
    properties: dict[str, Any]
    body: Any
    sent_event: dict[str, Any] | None


class Queues(Mapping[str, Any]):
    """Queue name to kombu Queue."""

    def __init__(self, app: Engine) -> None:
        self._app = app

    def __getitem__(self, name: str) -> Any:
        try:
            return kombu_queue(self._app.topology.queue_spec(name))
        except QueueNotFound as error:
            raise KeyError(name) from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._app.topology.queues)

    def __len__(self) -> int:
        return len(self._app.topology.queues)

    @property
    def consume_from(self) -> dict[str, Any]:
        """The queues that a worker without -Q reads."""
        return {spec.name: kombu_queue(spec) for spec in self._app.topology.consume_specs()}


class Router:
    """Celery's router: options in, options with a kombu Queue out."""

    def __init__(self, app: Engine) -> None:
        self._app = app

    def route(
        self,
        options: Mapping[str, Any],
        name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        task_type: Any = None,
    ) -> dict[str, Any]:
        route = self._app.topology.route(name, args, kwargs, options, task_type)
        found = {**route.options, "exchange": route.exchange, "routing_key": route.routing_key}
        if route.priority is not None:
            found["priority"] = route.priority
        if route.queue is not None:
            found["queue"] = kombu_queue(route.queue)
            if not route.exchange:
                del found["exchange"], found["routing_key"]
        return found


class AMQP:
    """See the module."""

    def __init__(self, app: Engine) -> None:
        self.app = app
        self.queues = Queues(app)
        self.router = Router(app)

    @property
    def routes(self) -> Any:
        """The setting ``task_routes``."""
        return self.app.conf.task_routes

    @property
    def default_queue(self) -> Any:
        return self.queues[self.app.conf.task_default_queue]

    @property
    def default_exchange(self) -> Any:
        from kombu.entity import Exchange

        return Exchange(self.app.conf.task_default_exchange, self.app.conf.task_default_exchange_type)

    @property
    def producer_pool(self) -> Any:
        return self.app.producer_pool

    publisher_pool = producer_pool

    def Producer(self, channel: Any = None, **options: Any) -> _Producer:  # noqa: N802 - Celery's name
        return _Producer(channel if channel is not None else self.app, **options)

    def Consumer(self, channel: Any, queues: Any = (), **options: Any) -> Any:  # noqa: N802
        from engine.consumer import Consumer

        return Consumer(channel, queues, **options)

    def TaskConsumer(self, channel: Any, queues: Any = None, accept: Any = None, **options: Any) -> Any:  # noqa: N802
        """A consumer of the queues that a worker reads."""
        specs = queues if queues is not None else self.app.topology.consume_specs()
        return self.Consumer(channel, specs, accept=accept or self.app.conf.accept_content, **options)

    def as_task_v2(
        self,
        task_id: str,
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        countdown: float | None = None,
        eta: Any = None,
        group_id: str | None = None,
        group_index: int | None = None,
        expires: Any = None,
        retries: int = 0,
        chord: Any = None,
        callbacks: Any = None,
        errbacks: Any = None,
        reply_to: str | None = None,
        create_sent_event: bool = False,
        **options: Any,
    ) -> task_message:
        """A task message of protocol 2 in Celery's shape, every header written."""
        ignored = options.pop("ignore_result", False)
        options.update(countdown=countdown, eta=eta, group_id=group_id, group_index=group_index)
        options.update(expires=expires, retries=retries, chord=chord, link=callbacks, link_error=errbacks)
        task = make_task(name, task_id, args or (), kwargs or {}, options)
        task.ignore_result = bool(ignored)
        fill_headers(task)
        headers = encode_task_headers(task, False)
        embed = {field: getattr(task, field) for field in ("callbacks", "errbacks", "chain", "chord")}
        sent = {
            "uuid": task_id,
            "name": name,
            "args": task.argsrepr,
            "kwargs": task.kwargsrepr,
            **{field: headers.get(field) for field in ("root_id", "parent_id", "retries", "eta", "expires")},
        }
        return task_message(
            headers=headers,
            properties={"correlation_id": task_id, "reply_to": reply_to or ""},
            body=(tuple(task.args), dict(task.kwargs), embed),
            sent_event=sent if create_sent_event else None,
        )

    create_task_message = as_task_v2

    def send_task_message(
        self,
        producer: Any,
        name: str,
        message: task_message,
        exchange: Any = None,
        routing_key: str | None = None,
        queue: Any = None,
        retry: bool | None = None,
        retry_policy: Mapping[str, Any] | None = None,
        serializer: str | None = None,
        delivery_mode: Any = None,
        compression: str | None = None,
        declare: Any = None,
        headers: Mapping[str, Any] | None = None,
        exchange_type: str | None = None,
        timeout: float | None = None,
        **properties: Any,
    ) -> None:
        """Publish what `as_task_v2` made."""
        conf = self.app.conf
        place = {
            "exchange": exchange,
            "routing_key": routing_key,
            "queue": queue,
            "delivery_mode": delivery_mode,
        }
        if exchange_type is not None:
            place["exchange_type"] = exchange_type
        place["priority"] = properties.pop("priority", None)
        given = {key: value for key, value in place.items() if value is not None}
        if queue is None and exchange is None:
            given["queue"] = conf.task_default_queue
        route = self.app.topology.route(name, (), {}, given)
        policy = {**conf.task_publish_retry_policy, **(retry_policy or {})}
        eta = message.headers.get("eta")
        self._publish(
            producer if producer is not None else self.app.producer,
            message,
            route,
            {**message.headers, **(headers or {})},
            serializer or conf.task_serializer,
            compression or conf.task_compression,
            RetryPolicy.of(policy) if (conf.task_publish_retry if retry is None else retry) else NEVER,
            timeout if timeout is not None else conf.producer_timeout,
            {**message.properties, **properties, "eta": eta},
        )

    def _publish(
        self,
        producer: _Producer,
        message: task_message,
        route: Route,
        headers: dict[str, Any],
        serializer: str,
        compression: str | None,
        policy: RetryPolicy,
        timeout: float | None,
        properties: dict[str, Any],
    ) -> None:
        from engine.codec import Message
        from engine.dispatch import timestamp

        body, content_type, encoding, mime = write_body(message.body, serializer, compression=compression)
        if mime is not None:
            headers["compression"] = mime
        eta, expiration = properties.pop("eta", None), properties.pop("expiration", None)
        declare = [entity for entity in (route.queue, route.exchange_spec) if entity is not None]
        producer.sender.send_one(
            Message(
                body,
                content_type=content_type,
                content_encoding=encoding,
                headers=headers,
                exchange=route.exchange,
                routing_key=route.routing_key,
                delivery_mode=route.delivery_mode,
                priority=route.priority,
                expiration_ms=None if expiration is None else int(float(expiration) * 1000),
                due_at=None if eta is None else timestamp(eta),
                **{key: value for key, value in properties.items() if value not in (None, "")},
            ),
            declare,
            route.queue is not None,
            policy,
            timeout,
        )


def kombu_queue(spec: QueueSpec) -> Any:
    """A spec as a kombu Queue: its first binding is the queue's own exchange and key."""
    from kombu.entity import Exchange, Queue, binding

    def exchange(of: Any) -> Any:
        return Exchange(
            of.name,
            of.type,
            durable=of.durable,
            auto_delete=of.auto_delete,
            arguments=dict(of.arguments) or None,
        )

    own = spec.bindings[0] if spec.bindings else None
    return Queue(
        spec.name,
        exchange(own.exchange) if own is not None else None,
        routing_key=own.routing_key if own is not None else "",
        durable=spec.durable,
        exclusive=spec.exclusive,
        auto_delete=spec.auto_delete,
        queue_arguments=dict(spec.arguments) or None,
        binding_arguments=dict(own.arguments) or None if own is not None else None,
        bindings=[binding(exchange(b.exchange), b.routing_key, dict(b.arguments)) for b in spec.bindings[1:]],
        no_declare=spec.no_declare or None,
    )
