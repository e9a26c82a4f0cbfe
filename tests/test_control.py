"""``app.control``: what is sent, who is asked, and what comes back. Workers: tests/worker/test_revoke.py."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from engine import Engine
from engine.codec import Message, json_decode, json_encode
from engine.control import signal_name
from engine.errors import ConfigurationError, DecodeError
from engine.mailbox import Command, LamportClock, Mailbox


@pytest.fixture(
    params=[
        "memory",
        "sqlite",
        pytest.param("amqp", marks=pytest.mark.amqp),
        pytest.param("redis", marks=pytest.mark.redis),
    ]
)
def app(request: pytest.FixtureRequest, tmp_path: Any, unique: str) -> Iterator[Engine]:
    """One app a broker, with a control exchange of its own."""
    url = {
        "memory": lambda: f"memory://{unique}",
        "sqlite": lambda: f"sqlite:///{tmp_path}/broker.db",
        "amqp": lambda: request.getfixturevalue("rabbitmq").url,
        "redis": lambda: request.getfixturevalue("redis_server").url,
    }[request.param]()
    made = Engine("control", broker=url, control_exchange=unique, set_as_current=False)
    yield made
    made.close()


@contextmanager
def node(app: Engine, name: str, answer: Callable[[Command], Any]) -> Iterator[list[Command]]:
    """A node that answers in a thread; what it has heard."""
    heard: list[Command] = []
    mailbox = Mailbox.of(app.conf)
    queue = mailbox.node_queue(name)
    transport = app.open_transport()
    transport.declare(queue)
    transport.consume([queue.name], 10)
    stopped = threading.Event()

    def listen() -> None:
        transport.declare_exchange(mailbox.reply_exchange)
        while not stopped.is_set():
            for delivery in transport.receive(0.05):
                transport.ack([delivery])
                command = Command.from_body(json_decode(delivery.body))
                if not command.is_for(name):
                    continue
                heard.append(command)
                if command.reply_to is not None:
                    exchange, key = command.reply_to
                    body = json_encode({name: answer(command)})
                    headers = {"ticket": command.ticket, "clock": 1}
                    reply = Message(body, exchange=exchange, routing_key=key, headers=headers)
                    assert transport.publish([reply]) == [None]

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        yield heard
    finally:
        stopped.set()
        thread.join(10)
        transport.cancel()
        transport.delete_queue(queue.name)
        transport.close()


def pong(_command: Command) -> dict[str, str]:
    return {"ok": "pong"}


def test_all_nodes_answer_and_some_may_be_named(app: Engine) -> None:
    seen: list[Any] = []
    with node(app, "a@x", pong), node(app, "b@x", pong):
        replies = app.control.ping(timeout=20, limit=2, callback=seen.append)
        assert sorted(map(str, replies)) == ["{'a@x': {'ok': 'pong'}}", "{'b@x': {'ok': 'pong'}}"]
        assert seen == replies
        assert app.control.ping(destination=["b@x"], timeout=20) == [{"b@x": {"ok": "pong"}}]
        [reply] = app.control.ping(pattern="a@*", matcher="glob", timeout=20, limit=1)
        assert list(reply) == ["a@x"]


def test_waiting_ends_at_the_timeout(app: Engine) -> None:
    with node(app, "a@x", pong):
        assert app.control.ping(destination=["nobody@x"], timeout=0.2) == []


def test_revoke_sends_what_celery_sends(app: Engine) -> None:
    with node(app, "a@x", lambda command: dict(command.arguments)) as heard:
        asked = {"reply": True, "timeout": 20, "limit": 1}
        [reply] = app.control.revoke("one", terminate=True, signal="kill", **asked) or []
        assert reply == {"a@x": {"task_id": ["one"], "terminate": True, "signal": "SIGKILL"}}
        app.AsyncResult("two").revoke(wait=True, timeout=0.3)
        group = app.GroupResult(
            "g", [app.AsyncResult("three"), app.GroupResult("h", [app.AsyncResult("four")])]
        )
        group.revoke(wait=True, timeout=0.3)
        [last] = app.control.terminate(["five"], **asked) or []
        assert last["a@x"] == {"task_id": ["five"], "terminate": True, "signal": "SIGTERM"}
    assert [command.arguments["task_id"] for command in heard] == [
        ["one"],
        ["two"],
        ["three", "four"],
        ["five"],
    ]
    assert {command.method for command in heard} == {"revoke"}


def test_a_command_nobody_hears_is_logged(app: Engine, caplog: pytest.LogCaptureFixture) -> None:
    app.AsyncResult("a").revoke()
    assert "the command 'revoke' was heard by nobody" in caplog.text
    assert app.control.ping(timeout=0.1) == []


def test_a_broker_that_cannot_broadcast_is_an_error() -> None:
    app = Engine("control", broker="kombu+memory://", set_as_current=False)
    with pytest.raises(ConfigurationError, match="cannot broadcast"):
        app.AsyncResult("a").revoke()


def test_wrong_arguments_are_refused_before_anything_is_sent() -> None:
    app = Engine("control", broker="memory://", set_as_current=False)
    with pytest.raises(ConfigurationError, match="there is no signal 'SIGNOTHING'"):
        app.control.revoke("a", terminate=True, signal="SIGNOTHING")
    with pytest.raises(ConfigurationError, match="a list of node names"):
        app.control.ping(destination="a@x")
    app.conf.control_queue_durable = True
    with pytest.raises(ConfigurationError, match="exclude each other"):
        app.control.ping()


@pytest.mark.parametrize("given", ["TERM", "term", "SIGTERM", 15, "15", None])
def test_signals_by_any_name(given: Any) -> None:
    assert signal_name(given) == "SIGTERM"


def test_queues_have_the_names_and_arguments_of_kombus_mailbox() -> None:
    from kombu.pidbox import Mailbox as KombuMailbox

    conf = Engine("control", set_as_current=False).conf
    ours = Mailbox.of(conf)
    theirs = KombuMailbox("celery", "fanout", queue_expires=10.0, queue_ttl=300.0, reply_queue_ttl=300.0)
    for mine, their in (
        (ours.node_queue("w@h"), theirs.get_queue("w@h")),
        (ours.reply_queue("oid"), None),
    ):
        if their is None:
            their = theirs.get_reply_queue()
            assert mine.name.endswith(".reply.celery.pidbox")
            assert mine.bindings[0].exchange.name == their.exchange.name
        else:
            assert mine.name == their.name
        exchange = mine.bindings[0].exchange
        assert (mine.durable, mine.exclusive, mine.auto_delete) == (
            their.durable,
            their.exclusive,
            their.auto_delete,
        )
        assert mine.arguments == {"x-expires": 10_000, "x-message-ttl": 300_000}
        assert (exchange.name, exchange.type, exchange.durable) == (
            their.exchange.name,
            their.exchange.type,
            their.exchange.durable,
        )


@pytest.mark.parametrize("body", [None, [], {}, {"method": "ping", "reply_to": {"exchange": "x"}}, "ping"])
def test_what_is_no_command_is_a_decode_error(body: Any) -> None:
    with pytest.raises(DecodeError, match="not a control command"):
        Command.from_body(body)


def test_a_matcher_or_pattern_that_cannot_be_used() -> None:
    with pytest.raises(DecodeError, match="no matcher"):
        Command("ping", pattern="a", matcher="soundex").is_for("a@x")
    with pytest.raises(DecodeError, match="cannot be read"):
        Command("ping", pattern="(", matcher="pcre").is_for("a@x")


def test_the_clock_goes_on() -> None:
    clock = LamportClock()
    clock.adjust(41)
    assert clock.forward() == 43
    clock.adjust("later")
    assert clock.forward() == 45
