"""A real Celery client, 5.6 and 5.7, sends to ``engine run`` and reads its results."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.interop.processes import engine_worker
from tools.brokers import RabbitMQ, Redis

pytestmark = [pytest.mark.interop, pytest.mark.timeout(180)]
PAIRS = ["amqp+redis", "amqp+rpc", "redis+redis"]
CLIENT = Path(__file__).with_name("celery_client.py")


@pytest.fixture(scope="module", params=PAIRS)
def urls(request: pytest.FixtureRequest, rabbitmq: RabbitMQ, redis_server: Redis) -> tuple[str, str, str]:
    """Broker, result backend, and a name for the pair."""
    broker, _, backend = request.param.partition("+")
    brokers = {"amqp": rabbitmq.url, "redis": redis_server.url}
    return brokers[broker], "rpc://" if backend == "rpc" else redis_server.url, request.param


@pytest.fixture(scope="module")
def report(
    urls: tuple[str, str, str], celery_python: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Any]]:
    """What the client saw, all scenarios in one run of it."""
    broker, backend, _ = urls
    folder = tmp_path_factory.mktemp("client")
    queue = f"interop-{folder.name}"
    environment = {
        "INTEROP_BROKER": broker,
        "INTEROP_BACKEND": backend,
        "INTEROP_QUEUE": queue,
        "INTEROP_FOLDER": str(folder),
    }
    log = folder / "worker.log"
    with engine_worker("tests.interop.engine_app:app", log, queue, environment):
        done = subprocess.run(
            [celery_python, str(CLIENT), broker, backend, queue],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        found["log"] = log.read_text(errors="replace")
        yield found


EXPECTED = {
    "plain": 5,
    "kwargs": {"args": [1], "kwargs": {"text": "grüße ☃", "nested": {"a": [1, None, True]}}},
    "rich_json": True,
    "serializers": dict.fromkeys(("json", "yaml", "msgpack", "pickle"), 9),
    "compressions": dict.fromkeys(("zlib", "gzip", "bzip2", "lzma", "zstd", "brotli"), 20_000),
    "expired": "REVOKED",
    "priority": 13,
    "failure": {"error": "a reason", "class": "ValueError", "state": "FAILURE", "traceback": True},
    "retried": 2,
    "state_update": {"value": "done", "state": "SUCCESS"},
    "headers": "blue",
    "chained": 10,
    "grouped": [0, 2, 4, 6, 8],
    "protocol_1": 42,
    "ignored": True,
    "linked": [3, 13],
}


@pytest.mark.parametrize("scenario", list(EXPECTED))
def test_scenario_gives_what_a_celery_worker_gives(report: dict[str, Any], scenario: str) -> None:
    assert report[scenario] == EXPECTED[scenario], report["log"][-4000:]


def test_a_countdown_is_kept_and_not_much_exceeded(report: dict[str, Any]) -> None:
    assert 1.49 <= report["countdown"] < 4.0, report["log"][-4000:]


def test_an_unknown_task_ends_as_a_failure_the_client_sees(report: dict[str, Any]) -> None:
    assert report["unknown"] == "NotRegistered", report["log"][-4000:]
