"""A real Celery worker, 5.6 and 5.7, runs what engine sends: lean headers and full, every serializer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import Engine
from engine.canvas import chain, group
from tests.interop.processes import celery_worker
from tools.brokers import RabbitMQ, Redis

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]
WAIT_S = 30


class Fleet:
    """A running Celery worker and an engine app that sends to it."""

    def __init__(self, app: Engine, log: Path) -> None:
        self.app = app
        self.log = log

    def value(self, name: str, *args: Any, **options: Any) -> Any:
        result = self.app.send_task(f"interop.{name}", args=args, **options)
        return result.get(timeout=WAIT_S)


@pytest.fixture(scope="module", params=["lean", "full"])
def lean(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "lean")


@pytest.fixture(scope="module", params=["amqp", "redis"])
def fleet(
    request: pytest.FixtureRequest,
    lean: bool,
    rabbitmq: RabbitMQ,
    redis_server: Redis,
    celery_python: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("worker")
    broker = {"amqp": rabbitmq.url, "redis": redis_server.url}[request.param]
    queue = f"interop-{folder.name}-{request.param}"
    app = Engine(
        "sender",
        broker=broker,
        backend=redis_server.url,
        task_default_queue=queue,
        task_lean_headers=lean,
        accept_content=["json", "yaml", "msgpack", "pickle"],
    )
    environment = {"INTEROP_BROKER": broker, "INTEROP_BACKEND": redis_server.url, "INTEROP_QUEUE": queue}
    log = folder / "celery.log"
    with celery_worker(celery_python, "tests.interop.celery_app", log, queue, environment):
        yield Fleet(app, log)
    app.close()


def test_a_plain_task_runs(fleet: Fleet) -> None:
    assert fleet.value("add", 2, 3) == 5


def test_kwargs_and_unicode_arrive(fleet: Fleet) -> None:
    assert fleet.value("echo", "☃", kwargs={"ü": [1, None]}) == {"args": ["☃"], "kwargs": {"ü": [1, None]}}


@pytest.mark.parametrize("serializer", ["json", "yaml", "msgpack", "pickle"])
def test_every_serializer_is_read(fleet: Fleet, serializer: str) -> None:
    assert fleet.value("add", 4, 5, serializer=serializer) == 9


@pytest.mark.parametrize("compression", ["zlib", "gzip", "bzip2", "lzma", "zstd", "brotli"])
def test_every_compression_is_read(fleet: Fleet, compression: str) -> None:
    assert fleet.value("length", "x" * 20_000, compression=compression) == 20_000


def test_a_failure_comes_back_as_its_exception(fleet: Fleet) -> None:
    with pytest.raises(ValueError, match="a reason"):
        fleet.value("fail", "a reason")


def test_a_retry_of_the_worker_works_on_our_message(fleet: Fleet) -> None:
    assert fleet.value("flaky", "key", 2) == 2


def test_user_headers_arrive(fleet: Fleet) -> None:
    assert fleet.value("headers", headers={"x-tenant": "blue"}) == "blue"


def test_a_chain_goes_on_to_its_last_step(fleet: Fleet) -> None:
    def step(*args: int) -> Any:
        return fleet.app.signature("interop.add", args=args)

    result = chain(step(1, 2), step(3), step(4)).apply_async()
    assert result.get(timeout=WAIT_S) == 10


def test_a_group_gives_all_results(fleet: Fleet) -> None:
    members = [fleet.app.signature("interop.add", args=(n, n)) for n in range(5)]
    assert group(members).apply_async().get(timeout=WAIT_S) == [0, 2, 4, 6, 8]


def test_a_link_runs_after_its_task(fleet: Fleet) -> None:
    callback = fleet.app.signature("interop.add", args=(10,))
    result = fleet.app.send_task("interop.add", args=(1, 2), link=callback)
    assert result.get(timeout=WAIT_S) == 3
    children = result.children
    assert children
    assert children[0].get(timeout=WAIT_S) == 13
