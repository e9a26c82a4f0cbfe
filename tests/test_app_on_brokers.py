"""The same app on every broker and result store: calls, canvas, retries and results."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.app import Engine
from engine.canvas import chain, group
from engine.errors import ResultTimeout
from engine.task import Task
from tests.inline_worker import run_all

AMQP, REDIS = pytest.mark.amqp, pytest.mark.redis
CASES = [
    pytest.param(("memory", "same")),
    pytest.param(("sqlite", "same")),
    pytest.param(("amqp", "rpc"), marks=AMQP),
    pytest.param(("amqp", "redis"), marks=(AMQP, REDIS)),
    pytest.param(("redis", "redis"), marks=REDIS),
    pytest.param(("redis", "rpc"), marks=REDIS),
]


def url_of(kind: str, request: pytest.FixtureRequest, unique: str, tmp_path: Path) -> str | None:
    if kind == "amqp":
        return str(request.getfixturevalue("rabbitmq").url)
    if kind == "redis":
        return str(request.getfixturevalue("redis_server").url)
    here = {"memory": f"memory://{unique}", "sqlite": f"sqlite:///{tmp_path}/b.db"}
    return {**here, "rpc": "rpc://", "same": None}[kind]


@pytest.fixture(params=CASES, ids=lambda pair: "-".join(pair))
def app(request: pytest.FixtureRequest, unique: str, tmp_path: Path) -> Iterator[Engine]:
    broker, backend = (url_of(kind, request, unique, tmp_path) for kind in request.param)
    app = Engine("b", broker=broker, backend=backend, task_default_queue=unique)
    yield app
    transport = app.open_transport()
    transport.delete_queue(unique)
    transport.close()
    app.close()


@pytest.fixture
def add(app: Engine) -> Task[[int, int], int]:
    @app.task(name="b.add")
    def add(a: int, b: int = 0) -> int:
        if b < 0:
            raise ValueError(b)
        return a + b

    return add


def run(app: Engine, wanted: int) -> list[Any]:
    """Run until that many tasks have ended; the broker may need a moment to deliver."""
    done: list[Any] = []
    deadline = time.monotonic() + 30
    while len(done) < wanted:
        assert time.monotonic() < deadline, f"{len(done)} of {wanted}"
        done += run_all(app, app.conf.task_default_queue, wanted - len(done), patience_s=1.0)
    return done


def test_results_and_failures(app: Engine, add: Task[[int, int], int]) -> None:
    good, bad = add.delay(1, 2), add.delay(1, -1)
    run(app, 2)
    assert good.get(timeout=20) == 3
    with pytest.raises(ValueError, match="-1"):
        bad.get(timeout=20)
    assert (good.state, bad.state) == ("SUCCESS", "FAILURE")
    with pytest.raises(ResultTimeout):
        app.AsyncResult("nobody").get(timeout=0.05)


def test_chain_and_group(app: Engine, add: Task[[int, int], int]) -> None:
    result = chain(add.s(1, 1), add.s(10), group(add.s(n) for n in range(4))).delay()
    run(app, 6)
    assert result.get(timeout=20) == [12, 13, 14, 15]


def test_countdown_and_retry(app: Engine) -> None:
    @app.task(name="b.flaky", bind=True, max_retries=2)
    def flaky(self: Any) -> int:
        if self.request.retries < 2:
            self.retry(countdown=0.05)
        return int(self.request.retries)

    started = time.monotonic()
    result = flaky.apply_async(countdown=0.3)
    ran = run(app, 3)
    assert time.monotonic() - started > 0.3
    assert {message.id for message, _ in ran} == {result.id}
    assert result.get(timeout=20) == 2


def test_many_at_once(app: Engine, add: Task[[int, int], int]) -> None:
    result = group(add.s(n, 1) for n in range(200)).delay()
    run(app, 200)
    assert result.get(timeout=30) == list(range(1, 201))
