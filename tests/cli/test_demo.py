"""`engine demo`: the sums are right, on every broker, and it fails when they are not."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import engine
from tools.brokers import RabbitMQ, Redis


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Files of all sorts: source, text, binary, broken, empty, unreadable, nested, a link to nowhere."""
    root = tmp_path / "library"
    (root / "deep" / "er").mkdir(parents=True)
    (root / "__pycache__").mkdir()
    (root / "a.py").write_text("x = 1\ny = 2\n")
    (root / "broken.py").write_text("def (:\n  '''\n")
    (root / "latin.py").write_bytes(b"# -*- coding: nonsense -*-\nx = '\xe9'\n")
    (root / "deep" / "words.txt").write_text("one two\nthree\n")
    (root / "deep" / "er" / "binary.bin").write_bytes(bytes(range(256)))
    (root / "empty").write_bytes(b"")
    (root / "__pycache__" / "a.pyc").write_bytes(b"not counted")
    (root / "nowhere").symlink_to(root / "missing")
    return root


def run_demo(library: Path, *options: str) -> dict[str, Any]:
    done = engine("demo", str(library), "--concurrency", "2", "--json", *options, cwd=library.parent)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def check(found: dict[str, Any]) -> None:
    assert found["equal"]
    assert found["totals"] == found["plain_totals"]
    assert (found["tasks"], found["totals"]["files"]) == (6, 6)
    assert found["totals"]["lines"] == 2 + 2 + 2 + 2
    assert found["totals"]["tokens"] == 6 + 6 + 15 + 3
    assert len(found["totals"]["sha256"]) == 64
    assert found["tasks_per_second"] > 0


def test_demo_on_the_embedded_broker(library: Path) -> None:
    found = run_demo(library)
    check(found)
    assert found["broker"].startswith("sqlite:")


@pytest.mark.amqp
def test_demo_on_rabbitmq(library: Path, rabbitmq: RabbitMQ) -> None:
    check(run_demo(library, "--broker", rabbitmq.url))
    assert "demo-" not in rabbitmq.ctl("list_queues", "name")


@pytest.mark.redis
def test_demo_on_redis(library: Path, redis_server: Redis) -> None:
    check(run_demo(library, "--broker", redis_server.url))


def test_demo_prints_a_summary(library: Path) -> None:
    done = engine("demo", str(library), "--limit", "3", cwd=library.parent)
    assert done.returncode == 0, done.stderr
    assert "3 tasks, 4 processes, broker sqlite:" in done.stdout
    assert "the sums agree" in done.stdout
    assert "by a plain loop" in done.stdout


def test_unreadable_files_are_counted_and_nothing_fails(library: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads every file")
    (library / "a.py").chmod(0)
    found = run_demo(library)
    assert found["totals"]["unreadable"] == 1


def test_sums_that_differ_are_status_1(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.cli import demo_run
    from engine.cli.commands import run_command

    monkeypatch.setattr(demo_run, "count_plainly", lambda files, bar: demo_run.Counted([], 1.0))
    assert run_command(["demo", str(library), "-c", "1"]) == 1


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    done = engine("demo", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 2
    assert "no files" in done.stderr


def test_a_broker_that_is_down_is_one_line(library: Path) -> None:
    done = engine("demo", str(library), "--broker", "redis://127.0.0.1:1/0", cwd=library.parent)
    assert done.returncode == 3, done.stderr
    assert len(done.stderr.splitlines()) == 1
