"""Queues and routes of one app: task -> `Route`, resolved as Celery's clients and workers do (WIRE W7).

Declarations must be identical to Celery's, or the broker refuses one of the two: a queue has a direct
exchange and a routing key of its own name, yet a direct route is published to the default exchange with the
queue's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from engine import routes
from engine.errors import ConfigurationError, QueueNotFound
from engine.model import BindingSpec, ExchangeSpec, QueueSpec, Route
from engine.settings import Settings
from engine.topology_entities import (
    delivery_mode,
    direct_queue,
    exchange_spec,
    is_queue,
    queue_from_options,
    queue_spec,
)

__all__ = ["Topology", "exchange_spec", "queue_spec"]

_ROUTE_KEYS = frozenset({"queue", "exchange", "exchange_type", "routing_key", "delivery_mode", "priority"})


class Topology:
    """The queues and routes that the settings describe. Made anew when settings change."""

    def __init__(self, conf: Settings) -> None:
        self._conf = conf
        self._queues: dict[str, QueueSpec] = {}
        self._aliases: dict[str, QueueSpec] = {}
        self._modes: dict[str, int] = {}
        self._routers = routes.prepare(conf.task_routes)
        self._static = routes.is_static(self._routers)
        self._plain: dict[str, Route] = {}
        self._default_exchange = ExchangeSpec(
            conf.task_default_exchange or "", conf.task_default_exchange_type
        )
        for queue in self._configured():
            self._add(queue)
        self._default_names = tuple(self._queues)

    # -- queues ----------------------------------------------------------------------------------------

    def queue_spec(self, name: str) -> QueueSpec:
        """The queue of that name; made when ``task_create_missing_queues`` allows it, else QueueNotFound."""
        found = self._queues.get(name) or self._aliases.get(name)
        if found is not None:
            return found
        if not self._conf.task_create_missing_queues:
            known = ", ".join(sorted(self._queues)) or "none"
            raise QueueNotFound(f"queue {name!r} is not in task_queues (known: {known})")
        return self._add(self._missing(name))

    def consume_specs(self, names: Sequence[str] | None = None, worker: str | None = None) -> list[QueueSpec]:
        """The queues a worker reads: ``names``, else those of task_queues, else the default queue; and with
        ``worker_direct`` the one of its own, ``worker`` being its ``name@host``."""
        specs = [self.queue_spec(name) for name in (names or self._default_names)]
        if worker is not None and self._conf.worker_direct:
            specs.append(self._limited(direct_queue(worker)))
        return specs

    def known_queue(self, name: str) -> QueueSpec | None:
        """`queue_spec`, or None where that would raise."""
        try:
            return self.queue_spec(name)
        except QueueNotFound:
            return None

    @property
    def is_static(self) -> bool:
        """Whether a task's route depends on nothing but its name and the options of the call."""
        return self._static

    @property
    def queues(self) -> dict[str, QueueSpec]:
        """Every queue known so far."""
        return dict(self._queues)

    def entity_spec(self, queue: Any) -> QueueSpec:
        """A queue entity named in a call: as task_queues has it, else just as it was given."""
        known = self._queues.get(queue.name)
        return known if known is not None else queue_spec(queue)

    def _configured(self) -> list[Any]:
        queues = self._conf.task_queues
        if not queues:
            kind = self._conf.task_default_queue_type
            arguments = {"x-queue-type": "quorum"} if kind == "quorum" else {}
            bindings: tuple[BindingSpec, ...] = ()
            if self._default_exchange.name:
                bindings = (BindingSpec(self._default_exchange, self._conf.task_default_routing_key),)
            return [QueueSpec(self._conf.task_default_queue, arguments=arguments, bindings=bindings)]
        if isinstance(queues, Mapping):
            return [
                queue if is_queue(queue) else queue_from_options(name, queue)
                for name, queue in queues.items()
            ]
        for queue in queues:
            if not is_queue(queue):
                raise ConfigurationError(
                    f"task_queues holds {queue!r}: use kombu.Queue(...) or {{name: options}}"
                )
        return list(queues)

    def _add(self, queue: Any) -> QueueSpec:
        spec = queue_spec(queue)
        alias, key = getattr(queue, "alias", None), getattr(queue, "routing_key", None)
        mode = getattr(getattr(queue, "exchange", None), "delivery_mode", None)
        if mode is not None:
            self._modes[spec.name] = delivery_mode(mode)
        if not spec.bindings and self._default_exchange.name and not spec.no_declare:
            binding = BindingSpec(self._default_exchange, key or self._conf.task_default_routing_key)
            spec = replace(spec, bindings=(binding,))
        elif (
            spec.bindings and not spec.bindings[0].routing_key and spec.bindings[0].exchange.type == "direct"
        ):
            first = replace(spec.bindings[0], routing_key=self._conf.task_default_routing_key)
            spec = replace(spec, bindings=(first, *spec.bindings[1:]))
        spec = self._limited(spec)
        self._queues[spec.name] = spec
        if alias:
            self._aliases[alias] = spec
        return spec

    def _limited(self, spec: QueueSpec) -> QueueSpec:
        most = self._conf.task_queue_max_priority
        if most is None or "x-max-priority" in spec.arguments:
            return spec
        return replace(spec, arguments={**spec.arguments, "x-max-priority": most})

    def _missing(self, name: str) -> QueueSpec:
        kind = self._conf.task_create_missing_queue_type
        exchange = ExchangeSpec(name, self._conf.task_create_missing_queue_exchange_type or "direct")
        arguments = {"x-queue-type": kind} if kind != "classic" else {}
        return QueueSpec(name, arguments=arguments, bindings=(BindingSpec(exchange, name),))

    # -- routes ----------------------------------------------------------------------------------------

    def route(
        self,
        name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        task: Any = None,
    ) -> Route:
        """Where a task goes. ``options`` are those of apply_async; what they say wins over the routers."""
        if not options:
            plain = self._plain.get(name)
            if plain is not None:
                return plain
        merged = self._merge(name, args, kwargs or {}, dict(options or {}), task)
        route = self._resolve(merged)
        if not options and self._static:
            self._plain[name] = route
        return route

    def _merge(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], options: dict[str, Any], task: Any
    ) -> dict[str, Any]:
        for router in self._routers:
            answer = router(name, args, kwargs, options, task=task)
            if answer is not None:
                found = {"queue": answer} if isinstance(answer, str) else dict(answer)
                break
        else:
            found = {}
        if not found and "queue" not in options:
            found = {"queue": self._conf.task_default_queue}
        return {**found, **{key: value for key, value in options.items() if value is not None}}

    def _resolve(self, options: dict[str, Any]) -> Route:
        """As celery/app/amqp.py `send_task_message` decides between exchange and queue."""
        exchange, key, queue = options.get("exchange"), options.get("routing_key"), options.get("queue")
        if queue is None and exchange is None:
            queue = self._conf.task_default_queue
        spec: QueueSpec | None = None
        if queue is not None:
            spec = self.queue_spec(queue) if isinstance(queue, str) else self.entity_spec(queue)
        own = spec.bindings[0] if spec is not None and spec.bindings else None
        own_type = own.exchange.type if own is not None else "direct"
        kind = options.get("exchange_type") or own_type
        named = exchange_spec(exchange) if exchange else None
        untyped = isinstance(exchange, str) and "exchange_type" not in options  # as it is, not declared
        if (named is None or not named.name or not key) and kind == "direct" and spec is not None:
            target, key = ExchangeSpec(), spec.name
        elif named is not None:
            target = replace(named, type=kind) if isinstance(exchange, str) else named
            key = key or ""
        else:
            target = own.exchange if own is not None else self._default_exchange
            key = key or (own.routing_key if own is not None else "") or self._conf.task_default_routing_key
        return Route(
            exchange=target.name,
            routing_key=key,
            queue=spec,
            exchange_spec=None if not target.name or untyped else target,
            priority=options.get("priority", self._conf.task_default_priority),
            delivery_mode=self._mode(options, spec),
            options={name: value for name, value in options.items() if name not in _ROUTE_KEYS},
        )

    def _mode(self, options: Mapping[str, Any], spec: QueueSpec | None) -> int:
        mode = options.get("delivery_mode")
        if mode is None and spec is not None:
            mode = self._modes.get(spec.name)
        return delivery_mode(self._conf.task_default_delivery_mode if mode is None else mode)
