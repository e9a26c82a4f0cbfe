"""``app.amqp``: code that was written against Celery's finds what it expects."""

from __future__ import annotations

import json
from typing import Any

import pytest
from celery import Celery
from kombu import Exchange, Queue

from engine.app import Engine
from engine.topology import queue_spec

QUEUES = [
    Queue("celery"),
    Queue("feed", Exchange("events", type="topic"), routing_key="feed.#", max_priority=3),
]


@pytest.fixture
def app(unique: str) -> Engine:
    return Engine("amqp", broker=f"memory://{unique}", task_queues=QUEUES)


@pytest.fixture
def celery() -> Celery:
    app = Celery("oracle", broker="memory://", set_as_current=False)
    app.conf.task_queues = QUEUES
    return app


def test_queues_are_kombus(app: Engine, celery: Celery) -> None:
    assert list(app.amqp.queues) == list(celery.amqp.queues)
    for name in ("celery", "feed", "made-when-asked"):
        assert queue_spec(app.amqp.queues[name]) == queue_spec(celery.amqp.queues[name])
        assert app.amqp.queues[name].exchange.type == celery.amqp.queues[name].exchange.type
    assert list(app.amqp.queues.consume_from) == ["celery", "feed"]
    assert app.amqp.default_queue.name == "celery"
    assert app.amqp.default_exchange == celery.amqp.default_exchange
    app.conf.task_create_missing_queues = False
    with pytest.raises(KeyError):
        app.amqp.queues["nope"]


def test_the_message_is_celerys(app: Engine, celery: Celery) -> None:
    given: dict[str, Any] = {"args": (1,), "kwargs": {"b": 2}, "time_limit": 9, "group_id": "g", "retries": 1}
    given |= {"reply_to": "me", "callbacks": [{"task": "x"}], "root_id": "r", "shadow": "s", "origin": "o"}
    given |= {"create_sent_event": True, "eta": "2030-01-01T00:00:00+00:00", "ignore_result": True}
    ours = app.amqp.as_task_v2("id", "t.add", **given)
    theirs = celery.amqp.as_task_v2("id", "t.add", **given)
    assert ours._fields == theirs._fields
    assert {**ours.headers, "stamps": {}} == {**theirs.headers, "stamps": {}}
    assert ours.properties == theirs.properties
    assert ours.body == theirs.body
    assert ours.sent_event == theirs.sent_event


def test_a_message_made_by_hand_is_published(app: Engine) -> None:
    message = app.amqp.create_task_message("id", "t.add", (1, 2), {})
    with app.amqp.Producer(app) as producer:
        app.amqp.send_task_message(producer, "t.add", message, queue="celery", headers={"x": 1}, priority=2)
        app.amqp.send_task_message(
            None, "t.add", message, exchange="events", routing_key="feed.a", queue="feed"
        )
    transport = app.open_transport()
    plain, routed = transport.get("celery"), transport.get("feed")
    assert plain is not None
    assert routed is not None
    assert (plain.header("x"), plain.properties["priority"], plain.properties["correlation_id"]) == (
        1,
        2,
        "id",
    )
    assert json.loads(plain.body)[0] == [1, 2]
    assert (routed.exchange, routed.routing_key) == ("events", "feed.a")
    assert app.decode(plain).task == "t.add"


def test_router(app: Engine) -> None:
    app.conf.task_routes = {"t.*": {"queue": "feed", "routing_key": "feed.b", "priority": 1}}
    route = app.amqp.router.route({"expires": 5}, "t.add")
    assert (route["queue"].name, route["routing_key"], route["exchange"]) == ("feed", "feed.b", "events")
    assert (route["priority"], route["expires"]) == (1, 5)
    assert set(app.amqp.router.route({}, "other")) == {"queue"}


def test_task_consumer(app: Engine) -> None:
    app.send_task("t.add", [1])
    heard: list[Any] = []
    with app.connection() as connection, app.amqp.TaskConsumer(connection) as consumer:
        consumer.register_callback(lambda body, message: (heard.append(body), message.ack()))
        consumer.drain_events(timeout=10)
    assert heard[0][0] == [1]
