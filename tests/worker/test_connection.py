"""The broker goes away and comes back: running tasks finish, the rest is delivered again, nothing is lost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.worker.conftest import Place
from tests.worker.harness import wait_for
from tools.brokers import RabbitMQ, Redis


@pytest.fixture(
    params=[pytest.param(RabbitMQ, marks=pytest.mark.amqp), pytest.param(Redis, marks=pytest.mark.redis)]
)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A server of this test's own, since it is killed."""
    made = request.param(tmp_path / "server")
    made.start()
    yield made
    made.stop()


def _place(server: Any, tmp_path: Path, unique: str) -> Place:
    return Place(server.url, f"sqlite:///{tmp_path}/results.db", unique, tmp_path)


def test_broker_killed_and_restarted(server: Any, tmp_path: Path, unique: str) -> None:
    place = _place(server, tmp_path, unique)
    place.send_many("work", range(300), 0.005)
    with place.worker() as worker:
        wait_for(lambda: len(place.ledger.finished()) > 40, what="work to go on")
        server.kill()
        wait_for(lambda: "lost the connection" in worker.log(), what="the loss to be noticed")
        server.start()
        wait_for(lambda: len(place.ledger.finished()) == 300, timeout=60, what="all tasks")
        assert worker.stop() == 0
    assert worker.log().count("trying again:") <= 6, "each step is logged once, not for every try"
    runs = place.ledger.finished()
    assert sum(runs.values()) - 300 <= 4, "what was finished is not run again when it comes again"
    place.close()


def test_broker_absent_at_the_start(server: Any, tmp_path: Path, unique: str) -> None:
    place = _place(server, tmp_path, unique)
    place.send("work", "early")
    server.kill()
    worker = place.worker(expects_ready=False)
    with worker:
        wait_for(lambda: "no connection to the broker" in worker.log(), what="the log line")
        server.start()
        wait_for(lambda: place.ledger.finished()["early"] == 1, timeout=40, what="the task")
        assert worker.stop() == 0
    place.close()


def test_a_worker_without_its_broker_can_be_stopped(server: Any, tmp_path: Path, unique: str) -> None:
    place = _place(server, tmp_path, unique)
    with place.worker() as worker:
        place.send("add", 1, 1).get(timeout=20)
        place.app.close()
        server.kill()
        wait_for(lambda: "lost the connection" in worker.log(), what="the loss to be noticed")
        assert worker.stop(timeout=10) == 0
    assert worker.descendants_alive() == []


def test_a_worker_gives_up_after_so_many_retries(server: Any, tmp_path: Path, unique: str) -> None:
    place = _place(server, tmp_path, unique)
    place.environ["ENGINE_BROKER_CONNECTION_MAX_RETRIES"] = "3"
    with place.worker() as worker:
        place.send("add", 1, 1).get(timeout=20)
        place.app.close()
        server.kill()
        assert worker.wait(30) == 1, "lost"
    assert "stopping: no connection to the broker after 3 retries" in worker.log()
    assert worker.descendants_alive() == []
    with place.worker(expects_ready=False) as worker:
        assert worker.wait(30) == 1, "not there at the start"
    assert "no connection to the broker after 3 retries" in worker.log()


def test_a_worker_that_is_not_to_connect_again_ends(server: Any, tmp_path: Path, unique: str) -> None:
    place = _place(server, tmp_path, unique)
    place.environ["ENGINE_BROKER_CONNECTION_RETRY"] = "false"
    with place.worker() as worker:
        place.send("add", 1, 1).get(timeout=20)
        place.app.close()
        server.kill()
        assert worker.wait(30) == 1
    assert "stopping: no connection to the broker, and broker_connection_retry" in worker.log()
    assert worker.descendants_alive() == []


@pytest.mark.amqp
def test_a_damaged_file_is_told_once_and_the_worker_can_be_stopped(tmp_path: Path, unique: str) -> None:
    place = Place(f"sqlite:///{tmp_path}/broker.db", None, unique, tmp_path)
    place.send_many("work", range(3000))
    place.app.close()
    with (tmp_path / "broker.db").open("r+b") as file:
        file.seek(3 * 4096)
        file.write(os.urandom(200 * 4096))
    worker = place.worker(concurrency=2, expects_ready=False)
    with worker:
        wait_for(lambda: "is damaged" in worker.log(), what="the error")
        assert worker.stop(timeout=10) == 0
    assert "keep a copy" in worker.log()
    assert worker.log().count("\n") < 60, worker.log()


def test_connections_closed_by_the_broker_while_a_task_runs(tmp_path: Path, unique: str) -> None:
    """The task finishes, its result is stored, and its second delivery is not run."""
    rabbitmq = RabbitMQ(tmp_path / "server")  # its own: all connections are closed
    rabbitmq.start()
    place = _place(rabbitmq, tmp_path, unique)
    try:
        with place.worker(concurrency=1) as worker:
            result = place.send("work", "long", 2)
            wait_for(lambda: place.ledger.count("start", "long"), what="the task to start")
            place.app.close()
            rabbitmq.ctl("close_all_connections", "test")
            result.get(timeout=20)
            assert place.send("add", 1, 1).get(timeout=20) == 2
            wait_for(lambda: "was finished before" in worker.log(), what="the second delivery")
            assert worker.stop() == 0
        assert place.ledger.count("start", "long") == 1
        assert place.ready() == 0
        place.close()
    finally:
        rabbitmq.stop()


@pytest.mark.amqp
def test_result_store_away(rabbitmq: RabbitMQ, tmp_path: Path, unique: str) -> None:
    """No acknowledgement without a stored result: the task waits, and is told when the store is back."""
    store = Redis(tmp_path / "store")
    store.start()
    place = Place(rabbitmq.url, store.url, unique, tmp_path)
    try:
        with place.worker(concurrency=1) as worker:
            assert place.send("add", 1, 1).get(timeout=20) == 2
            place.app.close()
            store.kill()
            result = place.send("add", 2, 2)
            wait_for(lambda: "result store is out of reach" in worker.log(), what="the store to be missed")
            store.start()
            assert result.get(timeout=40) == 4
            assert worker.stop() == 0
        assert place.ready() == 0
    finally:
        place.close()
        store.stop()


def test_results_and_broker_gone_together(tmp_path: Path, unique: str) -> None:
    """Both in one Redis, for longer than a result is tried: the child waits for it."""
    server = Redis(tmp_path / "server")
    server.start()
    place = Place(server.url, server.url, unique, tmp_path)
    with place.worker(concurrency=1, prefetch=20) as worker:
        place.send("work", "one", 1)
        wait_for(lambda: place.ledger.count("start", "one"), what="the task to start")
        server.kill()
        wait_for(lambda: "could not be stored" in worker.log(), timeout=40, what="the store to be given up")
        wait_for(lambda: "no connection to the broker" in worker.log(), what="the child to wait")
        assert "died" not in worker.log()
        server.start()
        place.send("work", "two")
        wait_for(lambda: place.ledger.finished()["two"], timeout=40, what="the next task")
        assert worker.stop() == 0
    place.close()
    server.stop()


def test_a_redis_that_refuses_to_write_is_waited_for(tmp_path: Path, unique: str) -> None:
    """As one does whose disk is full (MISCONF), or that misses its replicas."""
    server = Redis(tmp_path / "server")
    server.start()
    place = Place(server.url, f"sqlite:///{tmp_path}/results.db", unique, tmp_path)
    raw = redis.Redis.from_url(server.url)
    with place.worker(concurrency=2) as worker:
        place.send("work", "one", 1)
        wait_for(lambda: place.ledger.count("start", "one"), what="the task to start")
        raw.config_set("min-replicas-to-write", 1)
        wait_for(lambda: place.ledger.finished()["one"], what="it to end")
        wait_for(lambda: "NOREPLICAS" in worker.log(), what="the refusal")
        raw.config_set("min-replicas-to-write", 0)
        place.send("work", "two")
        wait_for(lambda: place.ledger.finished()["two"], timeout=30, what="the next task")
        wait_for(lambda: not raw.hlen("unacked"), timeout=5, what="the first to be acknowledged")
        assert "died" not in worker.log()
        assert worker.stop() == 0
    assert place.ledger.finished()["one"] == 1, "its id is remembered"
    raw.close()
    place.close()
    server.stop()
