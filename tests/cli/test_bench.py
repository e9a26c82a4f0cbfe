"""`engine bench` with few tasks: real publishers and workers, and figures that can be."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import psutil
import pytest

from engine.bench.plan import WORKLOADS
from engine.bench.points import within
from tests.cli.command import ROOT, engine, environment
from tests.transport.sqlite_support import wait_until
from tools.brokers import RabbitMQ, Redis

FEW = ("--tasks", "2000", "--warmup", "20", "--runs", "1", "--json")


def bench(cwd: Path, *arguments: str) -> dict[str, Any]:
    done = engine("bench", *FEW, *arguments, cwd=cwd, timeout=110)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def check(found: dict[str, Any], workloads: list[str], side: str = "engine") -> dict[str, Any]:
    rows = {row["workload"]: row for row in found["rows"] if row["side"] == side}
    assert sorted(rows) == sorted(workloads)
    for row in rows.values():
        assert len(row["each"]) == row["runs"] == 1
        for key, value in row["each"][0].items():
            assert 0 <= row[key]["low"] <= row[key]["median"] == value <= row[key]["high"]
    return rows


def test_all_workloads_on_the_embedded_broker(tmp_path: Path) -> None:
    found = bench(tmp_path, "all")
    rows = check(found, ["codec", "publish", "publish-many", "consume", "roundtrip", "start"])
    assert all(row["rate"]["median"] > 0 for name, row in rows.items() if name != "start")
    assert 10 < rows["start"]["start_ms"]["median"] < 60_000
    assert len(rows["roundtrip"]["quantiles_ms"]) > 100
    assert {"engine", "Python", "apsw", "SQLite"} <= set(found["versions"])
    assert 0 < rows["consume"]["worker_us"]["median"] < 100_000
    assert 0 < rows["publish"]["publisher_us"]["median"] < 100_000
    assert rows["roundtrip"]["p50_ms"]["median"] <= rows["roundtrip"]["p99_ms"]["median"]
    assert rows["roundtrip"]["p99_ms"]["high"] <= rows["roundtrip"]["max_ms"]["high"]
    assert rows["roundtrip"]["tasks"] == 200
    assert "broker_us" not in rows["consume"]


@pytest.mark.amqp
@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
def test_consume_on_rabbitmq(tmp_path: Path, rabbitmq: RabbitMQ, queue_type: str) -> None:
    options = ("--broker", rabbitmq.url, "--queue-type", queue_type, "-c", "2")
    rows = check(bench(tmp_path, "consume", *options), ["consume"])
    assert rows["consume"]["broker_us"]["median"] > 0
    assert "bench-" not in rabbitmq.ctl("list_queues", "name")


@pytest.mark.amqp
def test_sharing_is_measured_beside_the_ideal(tmp_path: Path, rabbitmq: RabbitMQ) -> None:
    options = ("--broker", rabbitmq.url, "-c", "4", "--scale", "0.05", "--against", "dramatiq")
    rows = check(bench(tmp_path, "sharing-d", *options), ["sharing-d"])
    found = rows["sharing-d"]
    assert found["tasks"] == 21
    assert found["ideal_s"]["median"] == pytest.approx(0.25)
    assert found["makespan_s"]["median"] >= 0.25
    assert found["short_s"]["median"] <= found["makespan_s"]["median"]
    assert found["over_ideal"]["median"] == pytest.approx(found["makespan_s"]["median"] / 0.25, rel=0.01)


def test_all_of_sharing_on_the_embedded_broker(tmp_path: Path) -> None:
    names = [f"sharing-{letter}" for letter in "abcde"]
    rows = check(bench(tmp_path, "sharing", "-c", "4", "--scale", "0.01"), names)
    assert all(row["over_ideal"]["median"] > 0.99 for row in rows.values())


@pytest.mark.redis
def test_idle_processes_are_weighed(tmp_path: Path, redis_server: Redis) -> None:
    options = ("--broker", redis_server.url, "-c", "2", "--idle", "0.5", "--against", "huey")
    found = bench(tmp_path, "idle", *options)
    for side in ("engine", "huey"):
        row = check(found, ["idle"], side)["idle"]
        assert 10 < row["pss_mib"]["median"] < 1_000
        assert row["processes"]["median"] >= 3
        assert row["connections"]["median"] >= 2
        assert row["idle_cpu"]["median"] < 100


def test_growth_counts_the_same_tasks_at_any_depth(tmp_path: Path) -> None:
    rows = check(bench(tmp_path, "growth-10k"), ["growth-10k"])
    assert rows["growth-10k"]["tasks"] == 4_900
    assert rows["growth-10k"]["worker_us"]["median"] > 0


def test_growth_stands_beside_the_smallest(tmp_path: Path) -> None:
    names = [f"growth-children-{count}" for count in (1, 4, 16, 64)]
    rows = check(bench(tmp_path, "growth-children", "--tasks", "500"), names)
    assert rows["growth-children-1"]["worker_ratio"]["median"] == 1
    assert all(row["worker_ratio"]["median"] > 0 < row["write_ms"]["median"] for row in rows.values())
    assert rows["growth-children-64"]["tasks"] == 64_000


@pytest.mark.amqp
def test_growth_with_queues(tmp_path: Path, rabbitmq: RabbitMQ) -> None:
    found = bench(tmp_path, "growth-queues", "--broker", rabbitmq.url)
    rows = check(found, ["growth-queues-1", "growth-queues-10", "growth-queues-50"])
    assert all(row["broker_ratio"]["median"] > 0 for row in rows.values())
    assert "bench-" not in rabbitmq.ctl("list_queues", "name")


@pytest.mark.redis
def test_growth_with_registered_tasks(tmp_path: Path, redis_server: Redis) -> None:
    found = bench(tmp_path, "growth-tasks", "--broker", redis_server.url, "--against", "celery")
    check(found, ["growth-tasks-1", "growth-tasks-100", "growth-tasks-10k"])
    assert "celery has no part in" in " ".join(found["notes"])


def test_growth_goes_as_deep_as_the_scale_allows() -> None:
    assert within(WORKLOADS["growth"], 0.1) == ("growth-1k", "growth-10k", "growth-100k")
    assert within(WORKLOADS["growth"], 1.0) == WORKLOADS["growth"]
    assert within(("growth-1m",), 0.1) == ("growth-1m",)


@pytest.mark.interop
@pytest.mark.parametrize(
    ("workload", "broker", "tasks"),
    [
        pytest.param("bodies-10m", "rabbitmq", 20, marks=pytest.mark.amqp),
        pytest.param("bodies-1k", "redis_server", 2_000, marks=pytest.mark.redis),
        ("bodies-100k", None, 2_000),
    ],
)
def test_bodies(
    tmp_path: Path, request: pytest.FixtureRequest, workload: str, broker: str | None, tasks: int
) -> None:
    options = ("--broker", request.getfixturevalue(broker).url) if broker else ()
    found = bench(tmp_path, workload, *options, "--against", "raw")
    for side in ("engine", "raw"):
        row = check(found, [workload], side)[workload]
        assert row["in_mb_s"]["median"] > 0 < row["out_mb_s"]["median"]
        assert row["tasks"] == tasks or side == "raw"
        assert ("json_in_us" in row) == (side == "engine")


def test_memory_is_looked_at_on_the_way(tmp_path: Path) -> None:
    row = check(bench(tmp_path, "memory", "-c", "2"), ["memory"])["memory"]
    assert 10 < row["rss10_mib"]["median"] < 1_000
    assert row["rss_growth"]["median"] == pytest.approx(
        row["rss100_mib"]["median"] / row["rss10_mib"]["median"], rel=0.01
    )


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
    found = bench(tmp_path, "consume", *options, "--tasks", "6000", "--against", first, "--against", others)
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


def test_a_plot_is_drawn(tmp_path: Path) -> None:
    picture = tmp_path / "bench.svg"
    bench(tmp_path, "roundtrip", "--plot", str(picture))
    root = ElementTree.parse(picture).getroot()
    shown = [text.text or "" for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "Latency on an idle system" in shown
    assert any(text.startswith("SQLite 3.") for text in shown)


def test_a_place_that_cannot_be_written_to_is_told_at_once(tmp_path: Path) -> None:
    done = engine("bench", "codec", "--plot", str(tmp_path / "none" / "bench.svg"), *FEW, cwd=tmp_path)
    assert done.returncode == 2
    assert "is not a folder that can be written to" in done.stderr


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
    assert "extra 'bench'" in done.stderr


def test_a_broker_that_is_down_is_told_before_anything_starts(tmp_path: Path) -> None:
    done = engine("bench", "consume", "--broker", "amqp://127.0.0.1:1//", *FEW, cwd=tmp_path)
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1


def test_ended_by_a_signal_it_leaves_no_process(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "engine", "bench", "idle", "--idle", "60"]
    environ = {**environment(), "TMPDIR": str(tmp_path)}
    running = subprocess.Popen(command, cwd=ROOT, env=environ, stderr=subprocess.DEVNULL)

    def started() -> list[psutil.Process]:
        found = psutil.Process(running.pid).children(recursive=True)
        return [one for one in found if one.name().startswith("engine-child")]

    wait_until(lambda: bool(started()), "its worker to start", 30)
    others = psutil.Process(running.pid).children(recursive=True)
    running.terminate()
    assert running.wait(60) == 130
    assert not [one for one in others if is_alive(one)]
    assert list(tmp_path.iterdir()) == []


def is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_interrupted_while_its_processes_are_held_it_ends_soon(tmp_path: Path) -> None:
    """All of them: a task that waits for the start of the clock would wait for ever."""
    command = [sys.executable, "-m", "engine", "bench", "sharing-d", "--concurrency", "2"]
    environ = {**environment(), "TMPDIR": str(tmp_path)}
    running = subprocess.Popen(command, cwd=ROOT, env=environ, stderr=subprocess.DEVNULL)
    wait_until(lambda: bool(list(tmp_path.glob("*/*/held/*"))), "a process to be held", 30)
    others = psutil.Process(running.pid).children(recursive=True)
    running.send_signal(signal.SIGINT)
    assert running.wait(20) == 130
    wait_until(lambda: not [one for one in others if is_alive(one)], "all to end", 20)
    assert list(tmp_path.iterdir()) == []
