"""Queues and routes: what is declared and where tasks go, with Celery itself as the oracle."""

from __future__ import annotations

import re
from typing import Any

import pytest
from celery import Celery
from kombu import Exchange, Queue, binding

from engine.errors import ConfigurationError, QueueNotFound
from engine.model import BindingSpec, ExchangeSpec, QueueSpec
from engine.settings import Settings
from engine.topology import Topology, queue_spec

topic = Exchange("events", type="topic")


def make(**settings: Any) -> Topology:
    return Topology(Settings(settings, environ={}))


def celery_app(**settings: Any) -> Celery:
    app = Celery("oracle", broker="memory://", set_as_current=False)
    app.conf.update(settings)
    return app


def celery_publish(app: Celery, name: str, **options: Any) -> dict[str, Any]:
    """Where Celery would publish the task, and what it would declare."""
    sent: dict[str, Any] = {}

    class Spy:
        def publish(self, body: Any, **given: Any) -> None:
            sent.update(given)

    routed = app.amqp.router.route(dict(options), name, (), {})
    message = app.amqp.as_task_v2("id", name)
    app.amqp.send_task_message(Spy(), name, message, **routed)
    return sent


CONFIGS: list[dict[str, Any]] = [
    {},
    {"task_default_queue": "mine"},
    {"task_default_exchange": "x", "task_default_routing_key": "k"},
    {"task_default_exchange": "t", "task_default_exchange_type": "topic", "task_default_routing_key": "a.b"},
    {"task_default_queue_type": "quorum"},
    {"task_create_missing_queue_type": "quorum", "task_create_missing_queue_exchange_type": "topic"},
    {"task_queue_max_priority": 10},
    {"task_queues": [Queue("celery"), Queue("other", Exchange("other"), routing_key="other")]},
    {"task_queues": (Queue("feed", topic, routing_key="feed.#"), Queue("celery"))},
    {"task_queues": {"celery": {"exchange": "celery"}, "a": {"exchange": "ax", "binding_key": "ak"}}},
    {"task_queues": [Queue("celery", max_priority=5, expires=60, message_ttl=1.5, max_length=7)]},
    {
        "task_queues": [
            Queue("celery", bindings=[binding(topic, "a.*"), binding(Exchange("y"), "z")]),
            Queue("dead", Exchange("dead", durable=False), "d", durable=False, auto_delete=True),
        ]
    },
]
ROUTES: list[Any] = [
    None,
    {"proj.*": "wild"},
    {"proj.add": {"queue": "exact", "priority": 3}},
    {"proj.add": {"exchange": "named", "routing_key": "key"}},
    {"proj.add": {"queue": "celery", "routing_key": "special"}},
    [{"other.*": "o"}, {re.compile(r"proj\..*"): {"queue": "regex"}}],
    lambda name, args, kwargs, options, task=None, **kw: (
        {"queue": "function"} if name == "proj.add" else None
    ),
    ([("proj.*", {"queue": "pairs"})],),
]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"queue": "given"},
    {"queue": "celery", "routing_key": "feed.sub"},
    {"exchange": "named", "routing_key": "key"},
    {"exchange": topic, "routing_key": "a.b"},
    {"exchange": "lonely"},
    {"routing_key": "key"},
    {"priority": 7, "delivery_mode": 1},
    {"queue": Queue("adhoc", topic, routing_key="ad.hoc")},
]


@pytest.mark.parametrize(
    "routes", ROUTES, ids=lambda routes: "function" if callable(routes) else str(routes)[:40]
)
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: " ".join(config) or "nothing")
def test_tasks_go_where_celery_sends_them(config: dict[str, Any], routes: Any) -> None:
    settings = {**config, "task_routes": routes} if routes is not None else config
    for options in OPTIONS:
        sent = celery_publish(celery_app(**settings), "proj.add", **options)
        exchange = sent["exchange"]
        route = make(**settings).route("proj.add", (), {}, options)
        assert route.exchange == getattr(exchange, "name", exchange), options
        assert route.routing_key == (sent["routing_key"] or ""), options
        assert route.delivery_mode == (1 if sent["delivery_mode"] in (1, "transient") else 2), options
        assert route.priority == sent.get("priority"), options
        declared = [queue.name for queue in sent["declare"] or ()]
        assert ([route.queue.name] if route.queue is not None else []) == declared, options


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: " ".join(config) or "nothing")
def test_queues_are_declared_as_celery_does(config: dict[str, Any]) -> None:
    queues = celery_app(**config).amqp.queues
    topology = make(**config)
    assert [spec.name for spec in topology.consume_specs()] == list(queues.consume_from)
    for name in [*queues.consume_from, "unheard-of"]:
        oracle, spec = queues[name], topology.queue_spec(name)
        assert spec == queue_spec(oracle), name


def test_the_default_queue() -> None:
    assert make().consume_specs() == [
        QueueSpec("celery", bindings=(BindingSpec(ExchangeSpec("celery"), "celery"),))
    ]


def test_a_worker_reads_the_queues_it_is_told() -> None:
    topology = make(task_queues=[Queue("a"), Queue("b")])
    assert [spec.name for spec in topology.consume_specs()] == ["a", "b"]
    assert [spec.name for spec in topology.consume_specs(["b", "new"])] == ["b", "new"]
    assert [spec.name for spec in topology.consume_specs()] == ["a", "b"]


def test_missing_queues_may_be_forbidden() -> None:
    topology = make(task_create_missing_queues=False)
    with pytest.raises(QueueNotFound, match=r"'nope' is not in task_queues \(known: celery\)"):
        topology.queue_spec("nope")
    assert topology.known_queue("nope") is None


def test_an_alias_is_its_queue() -> None:
    assert make(task_queues=[Queue("long", alias="l")]).queue_spec("l").name == "long"


@pytest.mark.parametrize("queues", [["plain text"], {"a": {"exchang": "x"}}])
def test_what_is_no_queue_is_told(queues: Any) -> None:
    with pytest.raises(ConfigurationError, match="task_queues"):
        make(task_queues=queues)


def test_router_classes_and_paths() -> None:
    by_path = make(task_routes="tests.test_topology.PathRouter").route("any")
    assert (by_path.routing_key, by_path.priority) == ("old-any", 2)
    with pytest.raises(ConfigurationError, match="cannot import the router"):
        make(task_routes="tests.test_topology.Nothing").route("any")
    with pytest.raises(ConfigurationError, match="neither a mapping nor a function"):
        make(task_routes=[5])


class PathRouter:
    def route_for_task(self, task: str, args: Any = None, kwargs: Any = None) -> dict[str, Any]:
        return {"queue": f"old-{task}", "priority": 2}


def test_routers_see_the_arguments_every_time() -> None:
    def by_argument(name: str, args: Any, kwargs: Any, options: Any, task: Any = None, **_: Any) -> Any:
        return {"queue": f"q{args[0]}"}

    topology = make(task_routes=[by_argument])
    assert [topology.route("t", (n,)).routing_key for n in (1, 2)] == ["q1", "q2"]
    assert not topology.is_static
    assert make(task_routes={"a": "b"}).is_static


def test_further_options_of_a_route_are_kept() -> None:
    route = make(task_routes={"t": {"queue": "q", "serializer": "msgpack", "expires": 5}}).route("t")
    assert route.options == {"serializer": "msgpack", "expires": 5}
