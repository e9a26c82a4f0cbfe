"""What children share with the process they are forked from: every module, and the memory of the app."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.worker.conftest import Place
from tests.worker.harness import Worker, wait_for
from tools.brokers import RabbitMQ, Redis

#: MiB of data made by the app's import
_BALLAST_MIB = 24
_APP = f"""
import os
import sys

from tests.worker.sample_app import app, note

ballast = bytearray(os.urandom(1) * {_BALLAST_MIB * 2**20})
known = set()
os.register_at_fork(after_in_child=lambda: known.update(sys.modules))


@app.task(bind=True)
def tell(self, key, then=None):
    if then == "retry" and not self.request.retries:
        raise self.retry(countdown=0)
    note("told", key, os.getpid(), len(ballast), *sorted(set(sys.modules) - known))
    if then == "fail":
        raise ValueError(key)
"""


def _private_mib(pid: int) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    return sum(map(int, re.findall(r"^Private_\w+:\s+(\d+) kB", text, re.MULTILINE))) / 1024


def _check_that_nothing_is_imported(place: Place) -> None:
    (place.folder / "telling_app.py").write_text(_APP)
    tell = place.app.signature("telling_app.tell")
    with Worker(place.folder, place.environ, app="telling_app:app", concurrency=1) as worker:
        for key, then in (("first", None), ("failing", "fail"), ("again", "retry"), ("last", None)):
            tell.apply_async((key, then))
            wait_for(lambda key=key: place.ledger.count("told", key), what=f"the task {key}")
        assert worker.stop() == 0
    told = {line[1]: line[4:] for line in place.ledger.lines() if line[0] == "told"}
    print(told)
    assert told == {"first": [], "failing": [], "again": [], "last": []}, "modules that came after the fork"


def test_a_childs_first_tasks_import_nothing(place: Place) -> None:
    _check_that_nothing_is_imported(place)


@pytest.mark.amqp
def test_nor_do_they_over_tls(rabbitmq: RabbitMQ, tmp_path: Path, unique: str) -> None:
    url = f"{rabbitmq.amqps_url}?cacertfile={rabbitmq.cafile}"
    place = Place(url, f"sqlite:///{tmp_path}/results.db", unique, tmp_path)
    _check_that_nothing_is_imported(place)
    place.close()


@pytest.mark.redis
def test_nor_do_they_over_rediss(redis_server: Redis, tmp_path: Path, unique: str) -> None:
    url = f"{redis_server.rediss_url}?ssl_ca_certs={redis_server.cafile}"
    place = Place(url, f"sqlite:///{tmp_path}/results.db", unique, tmp_path)
    _check_that_nothing_is_imported(place)
    place.close()


def test_children_share_the_apps_memory(sqlite_place: Place) -> None:
    place = sqlite_place
    (place.folder / "telling_app.py").write_text(_APP)
    with Worker(place.folder, place.environ, app="telling_app:app", concurrency=4) as worker:
        for number in range(40):
            place.app.send_task("telling_app.tell", (f"task-{number}",))
        wait_for(lambda: place.ledger.count("told") == 40, what="all tasks")
        pids = [child.pid for child in worker.children()]
        private = {pid: _private_mib(pid) for pid in pids}
        print({pid: f"{mib:.1f} MiB" for pid, mib in private.items()})
        assert len(private) == 4
        assert max(private.values()) < 8, "without sharing it would be above 40"
        assert worker.stop() == 0


_RESTING_APP = """
from engine.worker import child
from tests.worker.sample_app import app, note

keep_house, trim_heap = child.Child._keep_house, child.trim_heap
child.Child._keep_house = lambda self, now: (keep_house(self, now), note("house"))[0]
child.trim_heap = lambda: (trim_heap(), note("trim"))[0]
"""


def test_a_child_at_rest_looks_at_its_heap_once(sqlite_place: Place) -> None:
    """A look at a large app's takes milliseconds."""
    place = sqlite_place
    (place.folder / "resting_app.py").write_text(_RESTING_APP)
    with Worker(place.folder, place.environ, app="resting_app:app", concurrency=1) as worker:
        place.send("add", 1, 1).get(timeout=20)
        wait_for(lambda: place.ledger.count("house") >= 4, what="some seconds of rest")
        assert 1 <= place.ledger.count("trim") <= 3, "once before the task, twice behind it"
        assert worker.stop() == 0
