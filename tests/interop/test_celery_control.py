"""Remote control across the two: Celery's ``app.control`` and ``celery inspect`` with ``engine run``, and the
engine's ``app.control`` with a real Celery worker, 5.6 and 5.7."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import Engine
from engine.errors import TaskRevoked
from tests.interop.processes import celery_worker, engine_worker, wait_for
from tools.brokers import RabbitMQ, Redis

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]
CLIENT = Path(__file__).with_name("control_client.py")
ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 30


@pytest.fixture(scope="module", params=["amqp", "redis"])
def place(
    request: pytest.FixtureRequest,
    rabbitmq: RabbitMQ,
    redis_server: Redis,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, str]:
    """What both sides are told."""
    folder = tmp_path_factory.mktemp("control")
    broker = {"amqp": rabbitmq.url, "redis": redis_server.url}[request.param]
    return {
        "INTEROP_BROKER": broker,
        "INTEROP_BACKEND": redis_server.url,
        "INTEROP_QUEUE": f"interop-{folder.name}-{request.param}",
        "INTEROP_FOLDER": str(folder),
    }


def node_of(log: Path) -> str:
    """The worker's name, as its banner tells it."""
    line = next(line for line in log.read_text().splitlines() if " worker " in line)
    return line.split(" worker ")[1].split()[0]


# -- a Celery client, engine's worker ------------------------------------------------------------------


@pytest.fixture
def engine_log(place: dict[str, str]) -> Iterator[Path]:
    log = Path(place["INTEROP_FOLDER"]) / "engine.log"
    with engine_worker("tests.interop.engine_app:app", log, place["INTEROP_QUEUE"], place):
        yield log


def test_a_celery_client_controls_our_worker(
    place: dict[str, str], engine_log: Path, celery_python: str
) -> None:
    node = node_of(engine_log)
    told = [place["INTEROP_BROKER"], place["INTEROP_BACKEND"], place["INTEROP_QUEUE"], node]
    done = subprocess.run(
        [celery_python, str(CLIENT), *told], capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    log = engine_log.read_text()
    assert report["ping"] == [{node: {"ok": "pong"}}], log
    assert report["inspect"] == {node: {"ok": "pong"}}, log
    assert report["started"], log
    assert report["terminated"] == ["REVOKED", "TaskRevokedError", "terminated"], log
    assert report["killed"] == ["REVOKED", "TaskRevokedError", "terminated"], log
    assert report["waiting"] == ["REVOKED", "TaskRevokedError", "revoked"], log
    assert report["value"] == 3, log
    assert report["unknown"] == [{node: {"error": "No such control command: no_such"}}]


@pytest.mark.parametrize("command", [["status"], ["inspect", "ping"]])
def test_celerys_command_line_sees_our_worker(
    place: dict[str, str], engine_log: Path, celery_python: str, command: list[str]
) -> None:
    node = node_of(engine_log)

    def ask() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [celery_python, "-m", "celery", "-b", place["INTEROP_BROKER"], *command],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    done = ask()
    if node not in done.stdout:  # it was not listening yet
        done = ask()
    assert node in done.stdout, done.stderr + engine_log.read_text()
    assert done.returncode == 0


# -- our client, Celery's worker -----------------------------------------------------------------------


@pytest.fixture
def celery_log(place: dict[str, str], celery_python: str) -> Iterator[Path]:
    log = Path(place["INTEROP_FOLDER"]) / "celery.log"
    with celery_worker(celery_python, "tests.interop.celery_app", log, place["INTEROP_QUEUE"], place):
        yield log


def test_our_client_controls_a_celery_worker(place: dict[str, str], celery_log: Path) -> None:
    app = Engine(
        "controller",
        broker=place["INTEROP_BROKER"],
        backend=place["INTEROP_BACKEND"],
        task_default_queue=place["INTEROP_QUEUE"],
        set_as_current=False,
    )
    wait_for(lambda: bool(app.control.ping(timeout=1, limit=1)), WAIT_S, celery_log.read_text)
    [reply] = app.control.ping(timeout=WAIT_S, limit=1)
    [(node, answer)] = reply.items()
    assert answer == {"ok": "pong"}
    assert app.control.ping(destination=[node], timeout=WAIT_S) == [{node: {"ok": "pong"}}]
    running = [app.send_task("interop.sleep", args=(60,)) for _ in range(2)]
    wait_for(
        lambda: celery_log.read_text().count("interop.sleep") >= 2, WAIT_S, lambda: celery_log.read_text()
    )
    waiting = app.send_task("interop.add", args=(1, 2))
    [told] = app.control.revoke(waiting.id, reply=True, timeout=WAIT_S, limit=1) or []
    assert "flagged as revoked" in told[node]["ok"]
    time.sleep(0.5)  # a process that has only just been given its task cannot be ended yet
    running[0].revoke(terminate=True, signal="SIGKILL")
    app.GroupResult("group", running[1:]).revoke(terminate=True, signal="SIGKILL", wait=True, timeout=2)
    for result, why in ((running[0], "terminated"), (running[1], "terminated"), (waiting, "revoked")):
        with pytest.raises(TaskRevoked, match=why):
            result.get(timeout=WAIT_S)
        assert result.state == "REVOKED"
    app.close()


def test_what_was_revoked_is_known_to_workers_that_start_later(
    place: dict[str, str], engine_log: Path, celery_python: str
) -> None:
    """Mingle, both ways: a starting worker asks those that run, with ``hello``."""
    app = Engine("controller", broker=place["INTEROP_BROKER"], set_as_current=False)
    folder, control = Path(place["INTEROP_FOLDER"]), app.control

    def known_at(node: str) -> Any:
        hello = {"from_node": "asking@here"}
        [answer] = control.broadcast("hello", hello, [node], reply=True, timeout=WAIT_S) or [{}]
        return answer.get(node, {}).get("revoked", ())

    def is_there(node: str) -> bool:
        return bool(control.ping(destination=[node], timeout=1))

    ours = node_of(engine_log)
    wait_for(lambda: is_there(ours), WAIT_S, engine_log.read_text)
    assert control.revoke("by-engine", reply=True, timeout=WAIT_S, limit=1)
    with celery_worker(
        celery_python,
        "tests.interop.celery_app",
        folder / "celery.log",
        place["INTEROP_QUEUE"],
        place,
        mingle=True,
    ):
        celery_node = next(
            node
            for reply in control.ping(timeout=WAIT_S, limit=2)
            for node in reply
            if node.startswith("celery@")
        )
        wait_for(lambda: "by-engine" in known_at(celery_node), WAIT_S, lambda: "Celery did not hear of it")
        control.revoke("by-celery", destination=[celery_node], reply=True, timeout=WAIT_S)
        with engine_worker(
            "tests.interop.engine_app:app",
            folder / "later.log",
            place["INTEROP_QUEUE"],
            place,
            hostname="later@here",
        ):
            wait_for(lambda: is_there("later@here"), WAIT_S, (folder / "later.log").read_text)
            wait_for(
                lambda: {"by-engine", "by-celery"} <= set(known_at("later@here")),
                WAIT_S,
                lambda: (folder / "later.log").read_text(),
            )
    app.close()
