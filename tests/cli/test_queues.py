"""`engine queues` and `engine purge`, on the embedded broker and on real ones."""

import json
from pathlib import Path

import pytest

from engine.app import Engine
from engine.codec import Message
from engine.model import QueueSpec
from engine.transport import open_transport
from tests.cli.command import engine
from tools.brokers import RabbitMQ, Redis


def call_some(shop: Path, *options: str, number: int = 2) -> None:
    for _ in range(number):
        assert engine("call", "shop", "shop.add", "1", "2", *options, cwd=shop).returncode == 0


def test_queues_shows_what_waits(shop: Path) -> None:
    call_some(shop)
    call_some(shop, "--countdown", "600", number=1)
    shown = json.loads(engine("queues", "shop", "--json", cwd=shop).stdout)
    [state] = shown["queues"]
    assert (state["name"], state["ready"], state["delayed"], state["consumers"]) == ("celery", 2, 1, 0)
    assert shown["missing"] == []
    table = engine("queues", "shop", cwd=shop).stdout.split()
    assert table[table.index("celery") + 1] == "2"


def test_a_queue_that_is_not_there_is_status_4(shop: Path) -> None:
    call_some(shop, number=1)
    done = engine("queues", "shop", "-Q", "celery,none", cwd=shop)
    assert done.returncode == 4
    assert "'none'" in done.stderr
    assert "celery" in done.stdout
    assert engine("purge", "shop", "-Q", "none", "--yes", cwd=shop).returncode == 4


def test_purge_asks_first(shop: Path) -> None:
    call_some(shop)
    refused = engine("purge", "shop", cwd=shop, stdin="n\n")
    assert refused.returncode == 130
    assert "celery" in refused.stderr
    assert "Traceback" not in refused.stderr
    agreed = engine("purge", "shop", cwd=shop, stdin="y\n")
    assert (agreed.returncode, agreed.stdout) == (0, "celery: 2 dropped\n")
    again = engine("purge", "shop", "--yes", "--json", cwd=shop)
    assert json.loads(again.stdout) == {"dropped": {"celery": 0}, "held": {"celery": 0}, "missing": []}


@pytest.mark.amqp
def test_queues_and_purge_on_rabbitmq(shop: Path, rabbitmq: RabbitMQ, unique: str) -> None:
    on_a_server(shop, rabbitmq.url, unique)


@pytest.mark.redis
def test_queues_and_purge_on_redis(shop: Path, redis_server: Redis, unique: str) -> None:
    on_a_server(shop, redis_server.url, unique)


def on_a_server(shop: Path, url: str, queue: str) -> None:
    try:
        call_some(shop, "--broker", url, "--queue", queue)
        shown = json.loads(engine("queues", "--broker", url, "-Q", queue, "--json", cwd=shop).stdout)
        assert [(state["name"], state["ready"]) for state in shown["queues"]] == [(queue, 2)]
        purged = engine("purge", "--broker", url, "-Q", queue, "-y", cwd=shop)
        assert purged.stdout == f"{queue}: 2 dropped\n"
    finally:
        transport = open_transport(url)
        transport.delete_queue(queue)
        transport.close()


def test_dead_letters_are_shown_when_there_are_any(shop: Path) -> None:
    engine("call", "shop", "shop.add", "1", "2", cwd=shop)
    assert ".dead" not in engine("queues", "shop", cwd=shop).stdout
    app = Engine("shop", broker=f"sqlite:///{shop}/engine.db", set_as_current=False)
    transport = app.open_transport()
    transport.declare(QueueSpec("celery.dead"))
    assert ".dead" not in engine("queues", "shop", cwd=shop).stdout
    assert transport.publish([Message(b"x", routing_key="celery.dead")]) == [None]
    shown = engine("queues", "shop", cwd=shop)
    assert "celery.dead" in shown.stdout
    assert shown.returncode == 0
    assert "celery.dead" in engine("queues", "-b", f"sqlite:///{shop}/engine.db", cwd=shop).stdout
    assert ".dead" not in engine("queues", "shop", "-Q", "celery", cwd=shop).stdout
    transport.consume(["celery"], 1)
    assert transport.receive(5)
    told = engine("purge", "shop", "--yes", cwd=shop).stdout
    assert told == "celery: 0 dropped; 1 held by workers stay, and run\n"
    transport.close()
    app.close()


@pytest.mark.parametrize("command", [["queues", "shop"], ["purge", "shop", "--yes"], ["run", "shop"]])
def test_a_list_of_queues_that_names_none_is_refused(shop: Path, command: list[str]) -> None:
    for empty in ("", ",,"):
        done = engine(*command, "-Q", empty, cwd=shop)
        assert (done.returncode, done.stdout) == (2, "")
        assert "-Q names no queue" in done.stderr
