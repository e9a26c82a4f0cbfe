"""`engine bench` with few tasks: real publishers and workers, and figures that can be."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import ROOT, engine
from tools.brokers import RabbitMQ, Redis

FEW = ("--tasks", "200", "--warmup", "20", "--runs", "1", "--json")


def bench(cwd: Path, *arguments: str) -> dict[str, Any]:
    done = engine("bench", *FEW, *arguments, cwd=cwd, timeout=110)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def check(found: dict[str, Any], workloads: list[str], side: str = "engine") -> dict[str, Any]:
    rows = {row["workload"]: row for row in found["rows"] if row["side"] == side}
    assert sorted(rows) == sorted(workloads)
    for row in rows.values():
        assert row["rate"]["median"] > 0
        assert row["rate"]["low"] <= row["rate"]["median"] <= row["rate"]["high"]
    return rows


def test_all_workloads_on_the_embedded_broker(tmp_path: Path) -> None:
    rows = check(bench(tmp_path, "all"), ["codec", "publish", "publish-many", "consume", "roundtrip"])
    assert 0 < rows["consume"]["worker_us"]["median"] < 100_000
    assert 0 < rows["publish"]["publisher_us"]["median"] < 100_000
    assert rows["roundtrip"]["p50_ms"]["median"] <= rows["roundtrip"]["p99_ms"]["median"]
    assert rows["roundtrip"]["p99_ms"]["high"] <= rows["roundtrip"]["max_ms"]["high"]
    assert rows["roundtrip"]["tasks"] == 20
    assert "broker_us" not in rows["consume"]


@pytest.mark.amqp
@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
def test_consume_on_rabbitmq(tmp_path: Path, rabbitmq: RabbitMQ, queue_type: str) -> None:
    options = ("--broker", rabbitmq.url, "--queue-type", queue_type, "-c", "2")
    rows = check(bench(tmp_path, "consume", *options), ["consume"])
    assert rows["consume"]["broker_us"]["median"] > 0
    assert "bench-" not in rabbitmq.ctl("list_queues", "name")


RIVALS = [
    pytest.param("rabbitmq", "celery,dramatiq,raw", marks=pytest.mark.amqp),
    pytest.param("redis_server", "dramatiq,huey,raw", marks=pytest.mark.redis),
    pytest.param(None, "huey,raw"),
]


@pytest.mark.interop
@pytest.mark.parametrize(("broker", "rivals"), RIVALS)
def test_against_rivals(
    tmp_path: Path, request: pytest.FixtureRequest, broker: str | None, rivals: str
) -> None:
    server = request.getfixturevalue(broker) if broker else None
    options = ("--broker", server.url) if server else ()
    first, _, others = rivals.partition(",")
    found = bench(tmp_path, "consume", *options, "--tasks", "1000", "--against", first, "--against", others)
    check(found, ["consume"])
    for rival in rivals.split(","):
        check(found, ["consume"], rival)
        figures = {change["figure"] for change in found["against"] if change["rival"] == rival}
        assert figures >= {"rate", "worker_us"}
    assert "guest:guest" not in json.dumps(found)
    if isinstance(server, RabbitMQ):
        assert "bench-" not in server.ctl("list_queues", "name")
    elif isinstance(server, Redis):
        assert b"bench-" not in b" ".join(keys_of(server))


def keys_of(server: Redis) -> list[bytes]:
    import redis

    with redis.Redis.from_url(server.url) as client:
        keys: list[bytes] = client.keys("*")
    return keys


@pytest.mark.interop
@pytest.mark.parametrize(
    ("workload", "broker", "rivals"),
    [
        pytest.param("roundtrip", "rabbitmq", "dramatiq,raw", marks=pytest.mark.amqp),
        pytest.param("roundtrip", "redis_server", "huey,raw", marks=pytest.mark.redis),
        pytest.param("publish", "rabbitmq", "celery,dramatiq,raw", marks=pytest.mark.amqp),
        pytest.param("publish", "redis_server", "dramatiq,huey,raw", marks=pytest.mark.redis),
        ("publish-many", None, "huey,raw"),
        pytest.param("codec", "redis_server", "celery,dramatiq,huey,raw", marks=pytest.mark.redis),
    ],
)
def test_rivals_in_the_other_workloads(
    tmp_path: Path, request: pytest.FixtureRequest, workload: str, broker: str | None, rivals: str
) -> None:
    options = ("--broker", request.getfixturevalue(broker).url) if broker else ()
    found = bench(tmp_path, workload, *options, "--tasks", "100", "--warmup", "5", "--against", rivals)
    for rival in rivals.split(","):
        check(found, [] if (rival, workload) == ("raw", "codec") else [workload], rival)


def test_a_rival_nobody_knows_is_refused(tmp_path: Path) -> None:
    done = engine("bench", "codec", "--against", "celery,sidekiq", *FEW, cwd=tmp_path)
    assert done.returncode == 2
    assert "'sidekiq' is not one of celery, dramatiq, huey, raw" in done.stderr


@pytest.mark.redis
def test_roundtrip_with_results(tmp_path: Path, redis_server: Redis) -> None:
    url = redis_server.url
    rows = check(bench(tmp_path, "roundtrip", "--broker", url, "--results", url), ["roundtrip"])
    assert rows["roundtrip"]["p50_ms"]["median"] > 0


def test_saved_figures_are_compared(tmp_path: Path) -> None:
    saved = tmp_path / "before.json"
    bench(tmp_path, "codec", "--save", str(saved))
    found = bench(tmp_path, "codec", "--compare", str(saved), "--fail-over", "95")
    assert {change["figure"] for change in found["compared"]} >= {"rate"}
    kept = json.loads(saved.read_text())
    kept["rows"][0]["rate"] = {"median": 1e12, "low": 1e12, "high": 1e12}
    saved.write_text(json.dumps(kept))
    done = engine("bench", "codec", *FEW, "--compare", str(saved), "--fail-over", "50", cwd=tmp_path)
    assert done.returncode == 1
    assert "codec, engine: rate is 0.00 times as good" in done.stderr


def test_the_table_says_what_was_measured(tmp_path: Path) -> None:
    done = engine("bench", "codec", "--tasks", "100", "--runs", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 runs: median (lowest–highest)" in done.stdout
    assert "results off" in done.stdout


def test_celery_on_sqlite_is_refused_in_one_line(tmp_path: Path) -> None:
    done = engine("bench", "consume", "--against", "celery", *FEW, cwd=tmp_path)
    assert done.returncode == 2
    assert "Celery has no sqlite:// broker" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_without_celery_the_extra_is_named(tmp_path: Path) -> None:
    hide = tmp_path / "sitecustomize.py"
    hide.write_text("import sys\nsys.modules['celery'] = None\n")
    options = ("--broker", "redis://127.0.0.1:1", "--against", "celery", *FEW)
    environ = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = engine("bench", "consume", *options, cwd=tmp_path, environ=environ)
    assert done.returncode == 2, done.stderr
    assert "engine[bench]" in done.stderr


def test_a_broker_that_is_down_is_told_before_anything_starts(tmp_path: Path) -> None:
    done = engine("bench", "consume", "--broker", "amqp://127.0.0.1:1//", *FEW, cwd=tmp_path)
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
