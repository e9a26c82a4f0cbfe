"""The raw side on real brokers: every message that was sent is received, in batches and alone."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.bench import leftovers
from engine.bench.plan import Plan
from engine.bench.raw_common import broker_module, message_for
from engine.bench.tally import read_tallies
from engine.bench.tasks import ADD, BEGIN, BeginListener
from tools.brokers import RabbitMQ, Redis

KINDS = [
    pytest.param("amqp", marks=pytest.mark.amqp),
    pytest.param("redis", marks=pytest.mark.redis),
    "sqlite",
]


@pytest.fixture(params=KINDS)
def plan(request: pytest.FixtureRequest, tmp_path: Path, unique: str) -> Iterator[Plan]:
    if request.param == "amqp":
        url = request.getfixturevalue("rabbitmq").url
    elif request.param == "redis":
        url = request.getfixturevalue("redis_server").url
    else:
        url = f"sqlite:///{tmp_path}/raw.db"
    plan = Plan(url, folder=str(tmp_path), queue=unique, concurrency=2)
    yield plan
    leftovers.remove(plan, "raw")


@contextmanager
def working(plan: Plan) -> Iterator[subprocess.Popen[bytes]]:
    worker = subprocess.Popen([sys.executable, "-m", "engine.bench.raw_worker"], env=plan.to_env())
    with worker:
        try:
            yield worker
        finally:
            worker.terminate()


def wait_for(plan: Plan, tasks: int, timeout_s: float = 20.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while (done := read_tallies(Path(plan.folder)).tasks) < tasks:
        assert time.monotonic() < deadline_s, f"{done} of {tasks}"
        time.sleep(0.01)


def publish(plan: Plan, one_by_one: int, many: int) -> None:
    sender = broker_module(plan).Sender(plan)
    data = sender.encode(message_for(plan, ADD))
    sender.one_by_one(data, one_by_one)
    sender.many(data, many, 250)
    sender.close()


@pytest.mark.parametrize("confirm", [True, False])
def test_every_message_arrives_once(plan: Plan, confirm: bool) -> None:
    publish(replace(plan, confirm=confirm), 7, 1_234)
    with working(plan) as worker:
        wait_for(plan, 1_241)
        publish(plan, 1, 1)
        wait_for(plan, 1_243)
        assert worker.poll() is None
    assert worker.returncode == 0
    assert read_tallies(Path(plan.folder)).tasks == 1_243


def test_a_message_that_comes_alone_tells_when_it_begins(plan: Plan) -> None:
    listener = BeginListener(plan.folder, 20.0)
    sender = broker_module(plan).Sender(plan)
    data = sender.encode(message_for(plan, BEGIN))
    with working(plan):
        for _ in range(3):
            sent_ns = time.monotonic_ns()
            sender.one_by_one(data, 1)
            assert sent_ns < listener.wait_ns() <= time.monotonic_ns()
    sender.close()
    listener.close()


def test_a_worker_that_cannot_connect_ends_and_says_why(tmp_path: Path) -> None:
    asked = Plan("amqp://127.0.0.1:1//", folder=str(tmp_path), queue="q")
    worker: Any = subprocess.run(
        [sys.executable, "-m", "engine.bench.raw_worker"],
        env=asked.to_env(),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert worker.returncode == 1
    assert "refused" in worker.stderr


@pytest.mark.amqp
def test_a_refused_login_is_told(rabbitmq: RabbitMQ) -> None:
    from engine.bench.raw_amqp import Link
    from engine.errors import EngineError

    with pytest.raises((EngineError, OSError)):
        Link(rabbitmq.url.replace("guest:guest", "guest:wrong"))


@pytest.mark.redis
def test_redis_errors_are_told(redis_server: Redis) -> None:
    from engine.bench.raw_redis import Link
    from engine.errors import EngineError

    link = Link(redis_server.url)
    with pytest.raises(EngineError, match="Redis refuses"):
        link.ask("NO-SUCH-COMMAND")
    link.close()


def test_nothing_is_left(plan: Plan) -> None:
    publish(plan, 2, 0)
    leftovers.remove(plan, "raw")
    if plan.scheme == "sqlite":
        assert [name for name in os.listdir(plan.folder) if plan.queue in name] == []
    else:
        publish(plan, 3, 0)  # a new queue holds only what came later
        from engine.transport import open_transport

        transport = open_transport(plan.broker)
        assert transport.queue_state(plan.queue).ready == 3
        transport.close()
