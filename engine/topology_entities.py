"""kombu's Exchange and Queue entities as specs. Recognised by their attributes, so kombu is not imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from engine.errors import ConfigurationError
from engine.model import BindingSpec, ExchangeSpec, QueueSpec

#: kombu's queue options in seconds or numbers -> (AMQP argument, factor)
_ARGUMENTS = {
    "expires": ("x-expires", 1000),
    "message_ttl": ("x-message-ttl", 1000),
    "max_length": ("x-max-length", 1),
    "max_length_bytes": ("x-max-length-bytes", 1),
    "max_priority": ("x-max-priority", 1),
}
_TRANSIENT = frozenset({1, "1", "transient"})


def is_queue(value: object) -> bool:
    """Whether it is a queue entity: kombu's, or a QueueSpec."""
    return isinstance(value, QueueSpec) or hasattr(value, "queue_arguments")


def delivery_mode(value: Any) -> int:
    """2 (persistent) or 1 (transient) from kombu's spellings; None is persistent."""
    return 1 if value in _TRANSIENT else 2


def exchange_spec(exchange: Any) -> ExchangeSpec:
    """An exchange entity, its name, or a spec, as a spec."""
    if isinstance(exchange, ExchangeSpec):
        return exchange
    if exchange is None:
        return ExchangeSpec()
    if isinstance(exchange, str):
        return ExchangeSpec(exchange)
    return ExchangeSpec(
        exchange.name or "",
        exchange.type or "direct",
        durable=bool(exchange.durable),
        auto_delete=bool(exchange.auto_delete),
        arguments=dict(exchange.arguments or {}),
    )


def queue_spec(queue: Any) -> QueueSpec:
    """A queue entity as a spec: its own exchange first, then its further bindings."""
    if isinstance(queue, QueueSpec):
        return queue
    arguments = dict(queue.queue_arguments or {})
    for option, (argument, factor) in _ARGUMENTS.items():
        value = getattr(queue, option, None)
        if value is not None:
            arguments[argument] = int(value * factor)
    bindings = []
    own = exchange_spec(queue.exchange)
    if own.name:
        bindings.append(BindingSpec(own, queue.routing_key or "", dict(queue.binding_arguments or {})))
    bindings.extend(
        BindingSpec(exchange_spec(binding.exchange), binding.routing_key or "", dict(binding.arguments or {}))
        for binding in queue.bindings or ()
    )
    return QueueSpec(
        queue.name,
        durable=bool(queue.durable),
        exclusive=bool(queue.exclusive),
        auto_delete=bool(queue.auto_delete),
        arguments=arguments,
        bindings=tuple(bindings),
        no_declare=bool(queue.no_declare),
    )


def queue_from_options(name: str, options: Mapping[str, Any]) -> QueueSpec:
    """``{"exchange": ..., "routing_key": ..., ...}`` of a ``task_queues`` mapping, as kombu reads it."""
    unknown = set(options) - _OPTIONS
    if unknown:
        raise ConfigurationError(
            f"task_queues[{name!r}]: unknown option {', '.join(sorted(map(str, unknown)))}"
        )
    key = options.get("binding_key") or options.get("routing_key") or name
    durable = options.get("durable", True)
    arguments = dict(options.get("queue_arguments") or {})
    for option, (argument, factor) in _ARGUMENTS.items():
        if options.get(option) is not None:
            arguments[argument] = int(options[option] * factor)
    exchange = exchange_spec(options.get("exchange"))
    if exchange.name and isinstance(options.get("exchange"), str):
        exchange = replace(
            exchange,
            type=options.get("exchange_type") or "direct",
            durable=_first(options.get("exchange_durable"), durable),
            auto_delete=_first(options.get("exchange_auto_delete"), options.get("auto_delete"), False),
            arguments=dict(options.get("exchange_arguments") or {}),
        )
    binding = BindingSpec(exchange, key, dict(options.get("binding_arguments") or {}))
    return QueueSpec(
        name,
        durable=_first(options.get("queue_durable"), durable),
        exclusive=bool(options.get("exclusive")),
        auto_delete=_first(options.get("queue_auto_delete"), options.get("auto_delete"), False),
        arguments=arguments,
        bindings=(binding,) if exchange.name else (),
        no_declare=bool(options.get("no_declare")),
    )


_OPTIONS = frozenset(
    {
        *("exchange", "exchange_type", "exchange_durable", "exchange_auto_delete", "exchange_arguments"),
        *(
            "routing_key",
            "binding_key",
            "binding_arguments",
            "bindings",
            "durable",
            "auto_delete",
            "exclusive",
        ),
        *("queue_durable", "queue_auto_delete", "queue_arguments", "no_declare", "delivery_mode", "alias"),
        *("no_ack", "consumer_arguments", *_ARGUMENTS),
    }
)


def _first(*values: Any) -> bool:
    return bool(next((value for value in values if value is not None), True))


def direct_queue(worker: str) -> QueueSpec:
    """The queue that only the worker of that ``name@host`` reads, named as in celery/utils/nodenames.py."""
    return QueueSpec(f"{worker}.dq2", bindings=(BindingSpec(ExchangeSpec("C.dq2"), worker),))
