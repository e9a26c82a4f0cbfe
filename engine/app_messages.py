"""The app's fourth layer: calls become messages and deliveries become task messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from engine import context as running
from engine import signals
from engine.app_tasks import AppTasks
from engine.async_result import AsyncResult
from engine.call_options import check_name, check_options, check_priority, checked_id
from engine.codec import Delivery, Message, TaskMessage, TaskTemplate, decode_task
from engine.dispatch import KNOWN_OPTIONS, Plan, check_arguments, encode, make_task
from engine.ids import new_id
from engine.message_body import JSON, unpacked
from engine.model import Route
from engine.publish_retry import NEVER, RetryPolicy
from engine.task import Task

#: options that say how or whether the call is made, not what is in its message
_CALL_ONLY = ("add_to_parent", "result_cls", "connection", "publisher", "route_name", "ignore_result")


class AppMessages(AppTasks):
    """The fourth layer of an app."""

    result_cls: type[AsyncResult[Any]] = AsyncResult

    def __init__(
        self, main: str | None, keywords: Mapping[str, Any], source: Any, namespace: str | None
    ) -> None:
        super().__init__(main, keywords, source, namespace)
        self._plans: dict[str, Plan] = {}
        self._templates: dict[str, tuple[TaskTemplate, Plan]] = {}

    def _settings_changed(self) -> None:
        super()._settings_changed()
        self._plans.clear()
        self._templates.clear()

    # -- sending ---------------------------------------------------------------------------------------

    def send_task(
        self,
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        task_id: str | None = None,
        producer: Any = None,
        **options: Any,
    ) -> AsyncResult[Any]:
        """Send a task by its name, registered here or not; options as for `Task.apply_async`."""
        return self.send(self._tasks.get(name), name, args or (), kwargs or {}, task_id, producer, options)

    def send(
        self,
        task: Task[Any, Any] | None,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        task_id: str | None,
        producer: Any,
        options: dict[str, Any],
    ) -> AsyncResult[Any]:
        """The one way out for every call. Raises PublishError or ConnectionFailed."""
        if not options and producer is None:
            sent = self._send_plainly(task, name, args, kwargs, task_id)
            if sent is not None:
                return sent
        if not self._finalized:
            self.finalize()
        if task is not None and self.conf.task_always_eager:
            return _eagerly(task, args, kwargs, task_id, options)
        task_id = checked_id(task_id) if task_id else new_id()
        ignored = _ignored(task, options)
        plan = self._plan(task, name, args, kwargs, options)
        message = self._make(plan, name, task_id, args, kwargs, options, ignored)
        sender = self._sender(producer, options)
        if self.rpc_results and not ignored:
            self.results.prepare(task_id)
        if signals.before_task_publish or signals.after_task_publish:
            self._publish_with_signals(sender, name, message, args, kwargs, plan)
        else:
            sender.send_one(message, plan.declare, plan.mandatory, plan.policy, plan.timeout)
        result = (options.get("result_cls") or self.result_cls)(task_id, task_name=name, app=self)
        result.ignored = bool(ignored)
        if options.get("add_to_parent", True):
            request = running.current_request()
            if request is not None and not request.called_directly:
                request.children.append(result)
        return result

    def _send_plainly(
        self,
        task: Task[Any, Any] | None,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        task_id: str | None,
    ) -> AsyncResult[Any] | None:
        """`send` in fewer steps, for a call that differs from the one before in its arguments alone, as most
        do. None when there is more to it; then nothing was sent."""
        known = self._templates.get(name)
        if (
            known is None
            or running.current_request() is not None
            or signals.before_task_publish.receivers
            or signals.after_task_publish.receivers
        ):
            return None
        template, plan = known
        if task_id is None:
            task_id = new_id()
        elif not isinstance(task_id, str):
            return None
        ignored = None if task is None else bool(task.ignore_result)  # None: the worker's task decides
        message = template.message(task_id, args, kwargs, ignored)
        if message is None:
            return None
        self.producer.sender.send_one(message, plan.declare, plan.mandatory, plan.policy, plan.timeout)
        result = self.result_cls(task_id, task_name=name, app=self)
        result.ignored = bool(ignored)
        return result

    def _plan(
        self,
        task: Task[Any, Any] | None,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
    ) -> Plan:
        if not options:
            known = self._plans.get(name)
            if known is not None:
                return known
        check_name(name)
        given = {key: value for key, value in options.items() if key not in _CALL_ONLY and value is not None}
        merged = {**task.call_options, **given} if task is not None else given
        check_options(merged, KNOWN_OPTIONS)
        topology = self.topology
        route = topology.route(options.get("route_name") or name, args, kwargs, merged, task)
        if route.priority is not None:
            check_priority("priority", route.priority)
        plan = Plan.of(self.conf, route, merged)
        if not options and topology.is_static:
            self._plans[name] = plan
            template = plan.template(name)
            if template is not None and not self.rpc_results:
                self._templates[name] = template, plan
        return plan

    def _make(
        self,
        plan: Plan,
        name: str,
        task_id: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
        ignored: bool | None,
    ) -> Message:
        call = plan.options
        request = running.current_request()
        inherits = request is not None and not request.called_directly
        if call or inherits:
            message = make_task(name, task_id, args, kwargs, call)
            if inherits and request is not None and request.id != task_id:
                message.root_id = message.root_id or request.root_id or request.id
                message.parent_id = message.parent_id or request.id
        else:
            check_arguments(args, kwargs)
            message = TaskMessage(name, task_id, args, kwargs)
        message.ignore_result = ignored
        if message.reply_to is None and (self.rpc_results or not plan.lean):
            message.reply_to = self.thread_oid
        encoded = encode(message, plan, call)
        if (
            inherits
            and request is not None
            and encoded.priority is None
            and self.conf.task_inherit_parent_priority
        ):
            encoded.priority = request.priority
        return encoded

    def _sender(self, producer: Any, options: Mapping[str, Any]) -> Any:
        producer = producer if producer is not None else options.get("publisher")
        if producer is not None:
            return producer.sender
        connection = options.get("connection")
        if connection is not None:
            return connection.Producer().sender
        return self.producer.sender

    def _publish_with_signals(
        self,
        sender: Any,
        name: str,
        message: Message,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        plan: Plan,
    ) -> None:
        """Receivers may change the headers, which are the message's own."""
        headers = message.headers if message.headers is not None else {}
        body: tuple[Any, ...] = (args, kwargs, {})
        where = {"exchange": message.exchange, "routing_key": message.routing_key}
        properties = {"correlation_id": message.correlation_id, "reply_to": message.reply_to}
        signals.before_task_publish.send(
            sender=name,
            body=body,
            headers=headers,
            properties=properties,
            declare=list(plan.declare),
            retry_policy=self.conf.task_publish_retry_policy,
            **where,
        )
        message.headers = headers
        sender.send_one(message, plan.declare, plan.mandatory, plan.policy, plan.timeout)
        signals.after_task_publish.send(sender=name, body=body, headers=headers, **where)

    @property
    def publish_policy(self) -> RetryPolicy:
        """The retry policy that the settings describe."""
        return RetryPolicy.of(self.conf.task_publish_retry_policy) if self.conf.task_publish_retry else NEVER

    # -- messages --------------------------------------------------------------------------------------

    def encode(
        self,
        task: TaskMessage,
        route: Route,
        *,
        serializer: str | None = None,
        compression: str | None = None,
        **properties: Any,
    ) -> Message:
        """The message of a task on that route. Raises EncodeError."""
        plan = Plan.of(self.conf, route, {"serializer": serializer, "compression": compression})
        return encode(task, plan, properties)

    @property
    def decode(self) -> Callable[[Delivery], TaskMessage]:
        """Gives the task of a delivery. Raises ContentDisallowed, DecodeError, MessageTooLarge.

        Plain JSON is read without a look at ``accept_content``; whether that is right is decided here, once
        for all the messages that are read with it."""
        from engine.serialization import accepted_types

        read = partial(decode_task, loads=self.loads, unpack=self._unpack)
        if JSON in accepted_types(self.conf.accept_content):
            return read
        return partial(self._decode_no_json, read)

    def _decode_no_json(self, read: Callable[[Delivery], TaskMessage], delivery: Delivery) -> TaskMessage:
        if delivery.content_type == JSON:
            self.loads(delivery.body, JSON, delivery.content_encoding)  # raises, with the reason
        return read(delivery)

    def _unpack(self, delivery: Delivery) -> bytes:
        conf = self.conf
        return unpacked(delivery, conf.accept_content, conf.broker_max_message_size)

    def loads(self, body: bytes, content_type: str | None, content_encoding: str | None) -> Any:
        """The value of a body, if ``accept_content`` has its type. Raises ContentDisallowed, DecodeError."""
        from engine.codec import json_decode
        from engine.serialization import loads

        accept = self.conf.accept_content
        return loads(body, content_type, content_encoding, accept, read_json=json_decode)

    def loads_delivery(self, delivery: Delivery) -> Any:
        """The value of a delivery's body, decompressed."""
        body = self._unpack(delivery)
        return self.loads(body, delivery.content_type, delivery.content_encoding)


def _ignored(task: Task[Any, Any] | None, options: Mapping[str, Any]) -> bool | None:
    """Whether no result is wanted; None when nobody here knows: then the worker's task decides."""
    ignored = options.get("ignore_result")
    if ignored is None and task is not None:
        ignored = task.ignore_result
    return None if ignored is None else bool(ignored)


def _eagerly(
    task: Task[Any, Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    task_id: str | None,
    options: Mapping[str, Any],
) -> AsyncResult[Any]:
    """As a message would have carried them: what cannot be serialized fails here too."""
    from engine.codec import json_decode
    from engine.serialization import dumps, loads

    check_options(options, KNOWN_OPTIONS)
    serializer = options.get("serializer") or task.serializer or "json"
    kind, encoding, body = dumps([list(args), dict(kwargs)], serializer)
    args, kwargs = loads(body, kind, encoding, [kind], read_json=json_decode)
    return task.apply(args, kwargs, task_id=task_id, **options)
