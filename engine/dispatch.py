"""A call becomes a message: ids, times, limits, route, body. The part of publishing that knows of tasks.

Rules: what does not change between calls of a task (its `Plan`) is worked out once; nothing here does I/O.
``countdown`` and ``eta`` set the header that workers read, and when the broker is to let the message go.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from engine.codec import Message, TaskMessage, TaskTemplate, encode_task_body, encode_task_headers
from engine.errors import ConfigurationError
from engine.message_body import JSON
from engine.model import ExchangeSpec, QueueSpec, Route
from engine.publish_retry import NEVER, RetryPolicy
from engine.signature import as_list

#: options of apply_async that become fields of the message, under the field's name
_MESSAGE_FIELDS = {
    "group_id": "group",
    "group_index": "group_index",
    "retries": "retries",
    "chord": "chord",
    "reply_to": "reply_to",
    "time_limit": "time_limit",
    "soft_time_limit": "soft_time_limit",
    "root_id": "root_id",
    "parent_id": "parent_id",
    "shadow": "shadow",
    "chain": "chain",
    "argsrepr": "argsrepr",
    "kwargsrepr": "kwargsrepr",
    "origin": "origin",
    "replaced_task_nesting": "replaced_task_nesting",
    "headers": "headers",
}
#: options that become properties of the message as they are
_PROPERTIES = frozenset({"correlation_id", "message_id", "timestamp", "type", "user_id", "app_id"})


@dataclass(frozen=True, slots=True)
class Plan:
    """How calls of one task with the same options are published."""

    route: Route
    declare: tuple[QueueSpec | ExchangeSpec, ...]
    mandatory: bool
    policy: RetryPolicy
    timeout: float | None
    serializer: str
    compression: str | None
    lean: bool
    options: Mapping[str, Any]  #: those that concern the message itself

    def template(self, name: str) -> TaskTemplate | None:
        """Makes the messages of calls that differ in their arguments alone; None when more is to be done."""
        if not self.lean or self.options or self.compression or self.serializer not in ("json", JSON):
            return None
        route = self.route
        return TaskTemplate(
            name,
            exchange=route.exchange,
            routing_key=route.routing_key,
            delivery_mode=route.delivery_mode,
            priority=route.priority,
        )

    @classmethod
    def of(cls, conf: Any, route: Route, options: Mapping[str, Any]) -> Plan:
        """``options`` are those of the call over those of the task; those of the route come below both."""
        merged = {**route.options, **{name: value for name, value in options.items() if value is not None}}
        retry = merged.get("retry", conf.task_publish_retry)
        policy = {**conf.task_publish_retry_policy, **(merged.get("retry_policy") or {})}
        exchange = route.exchange_spec
        declare = tuple(entity for entity in (route.queue, exchange) if entity is not None)
        fanout = exchange is not None and exchange.type == "fanout"
        mandatory = merged.get("mandatory")
        return cls(
            route=route,
            declare=declare if merged.get("declare") is None else tuple(merged["declare"]),
            mandatory=(not fanout) if mandatory is None else bool(mandatory),
            policy=RetryPolicy.of(policy) if retry else NEVER,
            timeout=merged.get("timeout", conf.producer_timeout),
            serializer=merged.get("serializer") or conf.task_serializer,
            compression=merged.get("compression") or conf.task_compression,
            lean=conf.task_lean_headers,
            options={name: value for name, value in merged.items() if name not in _PUBLISHING},
        )


_PUBLISHING = frozenset(
    {
        *("retry", "retry_policy", "mandatory", "immediate", "timeout", "confirm_timeout", "serializer"),
        *("compression", "declare", "queue", "exchange", "exchange_type", "routing_key", "priority"),
        *("delivery_mode", "add_to_parent", "result_cls", "router", "route_name", "connection", "task_type"),
        *("producer", "publisher", "ignore_result", "expiration"),
    }
)


#: every option that has a meaning here, beside those that `engine.call_options` checks by name
KNOWN_OPTIONS = frozenset(
    {
        *_MESSAGE_FIELDS,
        *_PROPERTIES,
        *_PUBLISHING,
        "eta",
        "stamped_headers",
        "stamps",
        "producer",
        "args",
        "kwargs",
    }
)


def make_task(
    name: str, task_id: str, args: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any]
) -> TaskMessage:
    """The task message of one call. Raises TypeError for arguments that are none."""
    check_arguments(args, kwargs)
    fields: dict[str, Any] = {
        field: options[name] for name, field in _MESSAGE_FIELDS.items() if options.get(name) is not None
    }
    if "link" in options:
        fields["callbacks"] = as_list(options["link"]) or None
    if "link_error" in options:
        fields["errbacks"] = as_list(options["link_error"]) or None
    if options.get("countdown") or options.get("eta"):
        fields["eta"] = _eta(options)
    if options.get("expires") is not None:
        fields["expires"] = _expires(options["expires"])
    stamped = options.get("stamped_headers")
    if stamped:
        fields["stamped_headers"] = list(stamped)
        fields["stamps"] = {header: options[header] for header in stamped if header in options}
    limit, soft = fields.get("time_limit"), fields.get("soft_time_limit")
    if limit and soft and soft > limit:
        raise ConfigurationError(f"soft_time_limit ({soft} s) is longer than time_limit ({limit} s)")
    return TaskMessage(name, task_id, args, kwargs, **fields)


def check_arguments(args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Raises TypeError when they are not what their names say."""
    if not isinstance(args, (list, tuple)):
        raise TypeError(f"task arguments are a list or a tuple, not {type(args).__name__}")
    if not isinstance(kwargs, Mapping):
        raise TypeError(f"a task's keyword arguments are a mapping, not {type(kwargs).__name__}")


def encode(task: TaskMessage, plan: Plan, properties: Mapping[str, Any]) -> Message:
    """The message of a task, ready to publish."""
    if not plan.lean:
        fill_headers(task)
    headers = encode_task_headers(task, plan.lean)
    serializer = plan.serializer
    if serializer in ("json", JSON):
        body, content_type, encoding = encode_task_body(task), JSON, "utf-8"
    else:
        from engine.serialization import dumps

        embed = {name: getattr(task, name) for name in ("callbacks", "errbacks", "chain", "chord")}
        content_type, encoding, body = dumps([list(task.args), dict(task.kwargs), embed], serializer)
    if plan.compression:
        from engine.serialization import compress

        body, headers["compression"] = compress(body, plan.compression)
    route = plan.route
    message = Message(
        body,
        content_type=content_type,
        content_encoding=encoding,
        headers=headers,
        exchange=route.exchange,
        routing_key=route.routing_key,
        delivery_mode=route.delivery_mode,
        priority=route.priority,
        correlation_id=task.id,
        reply_to=task.reply_to,
    )
    if task.eta is not None:
        message.due_at = timestamp(task.eta)
    if task.expires is not None:
        left_ms = int((timestamp(task.expires) - utc_now().timestamp()) * 1000)
        message.expiration_ms = (
            left_ms if left_ms > 0 else None
        )  # a broker would drop it, a worker tells of it
    for name, value in properties.items():
        if name in _PROPERTIES and value is not None:
            setattr(message, name, value)
    return message


def fill_headers(task: TaskMessage) -> None:
    """What Celery's clients write though no worker needs it: argsrepr, kwargsrepr, origin, root_id."""
    if task.argsrepr is None:
        task.argsrepr = _brief(tuple(task.args))
    if task.kwargsrepr is None:
        task.kwargsrepr = _brief(dict(task.kwargs))
    if task.origin is None:
        task.origin = f"gen{os.getpid()}@{socket.gethostname()}"
    if task.root_id is None:
        task.root_id = task.id


def _brief(value: object, most: int = 1024) -> str:
    text = repr(value)
    return text if len(text) <= most else text[: most - 3] + "..."


# -- times ---------------------------------------------------------------------------------------------


def utc_now() -> datetime:
    return datetime.now(timezone.utc)


def timestamp(text: str) -> float:
    """Unix seconds of ISO 8601 text; without a zone it is UTC."""
    try:
        moment = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
    except ValueError:
        raise ConfigurationError(f"not a time in ISO 8601: {text!r}") from None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)).timestamp()


def _eta(options: Mapping[str, Any]) -> str:
    countdown = options.get("countdown")
    if countdown:
        return (utc_now() + timedelta(seconds=float(countdown))).isoformat()
    return _iso(options["eta"], "eta")


def _expires(expires: Any) -> str:
    if isinstance(expires, timedelta):
        expires = expires.total_seconds()
    if isinstance(expires, (int, float)):
        return (utc_now() + timedelta(seconds=float(expires))).isoformat()
    return _iso(expires, "expires")


def _iso(moment: Any, what: str) -> str:
    if isinstance(moment, datetime):
        return moment.isoformat()
    if isinstance(moment, str):
        timestamp(moment)
        return moment
    raise TypeError(f"{what} is a datetime or ISO 8601 text, not {type(moment).__name__}")
