"""A task that lasts many heartbeats or leases keeps its connection and runs once, over plain sockets and TLS.

The short form stands for the long one: ``CHAOS_LONG=1`` sleeps 90 s at a heartbeat of 10 s, and holds the
interpreter's lock in C for 30 s at a heartbeat of 6 s.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine import Engine
from tests.worker.harness import Ledger, Worker, wait_for
from tools.brokers import RabbitMQ

LONG = bool(os.environ.get("CHAOS_LONG"))
#: task, seconds, heartbeat or lease in seconds
CASES = [("sleep", 90, 10), ("hold_gil", 30, 6)] if LONG else [("sleep", 7, 2), ("hold_gil", 7, 2)]
BROKERS = [
    pytest.param("amqp", marks=pytest.mark.amqp),
    pytest.param("amqps", marks=pytest.mark.amqp),
    pytest.param("redis", marks=pytest.mark.redis),
    pytest.param("rediss", marks=pytest.mark.redis),
]

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(180)]


@pytest.mark.parametrize(("task", "seconds", "beat_s"), CASES)
@pytest.mark.parametrize("over", BROKERS)
def test_it_keeps_its_connection_and_runs_once(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    unique: str,
    over: str,
    task: str,
    seconds: int,
    beat_s: int,
) -> None:
    server = request.getfixturevalue("rabbitmq" if over.startswith("amqp") else "redis_server")
    ledger = Ledger(tmp_path / "ledger")
    environ = {
        "LONG_BROKER": server.url if over in ("amqp", "redis") else getattr(server, f"{over}_url"),
        "LONG_QUEUE": unique,
        "LONG_BEAT": str(beat_s),
        "LONG_LEDGER": str(ledger.path),
        **({"LONG_CAFILE": server.cafile} if over in ("amqps", "rediss") else {}),
    }
    caller = Engine("caller", broker=server.url, task_default_queue=unique, set_as_current=False)
    caller.send_task(f"long.{task}", (seconds,))
    with Worker(tmp_path, environ, app="tests.chaos.long_app:app", concurrency=2) as worker:
        wait_for(lambda: ledger.count("finish"), timeout=seconds + 30, what="the task to end")
        caller.send_task("long.sleep", (0,))  # the same children still serve
        wait_for(lambda: ledger.count("finish") == 2, what="the next task")
        assert worker.stop() == 0
        assert "connection" not in worker.log().lower(), worker.log()
    assert ledger.count("start") == 2
    transport = caller.open_transport()
    assert transport.queue_state(unique).ready == 0
    transport.delete_queue(unique)
    transport.close()
    caller.close()


@pytest.mark.amqp
def test_over_tls_it_outlasts_the_heartbeats_made_ahead(
    tmp_path: Path, unique: str, rabbitmq: RabbitMQ
) -> None:
    """They are made again in time, as long as Python gets to run."""
    ledger = Ledger(tmp_path / "ledger")
    environ = {
        "LONG_BROKER": rabbitmq.amqps_url,
        "LONG_CAFILE": rabbitmq.cafile,
        "LONG_QUEUE": unique,
        "LONG_BEAT": "2",
        "LONG_COVER": "4",
        "LONG_LEDGER": str(ledger.path),
    }
    caller = Engine("caller", broker=rabbitmq.url, task_default_queue=unique, set_as_current=False)
    caller.send_task("long.sleep", (12,))
    with Worker(tmp_path, environ, app="tests.chaos.long_app:app", concurrency=1) as worker:
        wait_for(lambda: ledger.count("finish"), timeout=40, what="the task to end")
        assert worker.stop() == 0
        assert "connection" not in worker.log().lower(), worker.log()
    assert ledger.count("start") == 1
    caller.close()
