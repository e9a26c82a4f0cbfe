"""The order in which a worker's processes start."""

from __future__ import annotations

import psutil

from tests.worker.conftest import Place
from tests.worker.harness import Worker, name_of, wait_for


def _all(worker: Worker) -> list[psutil.Process]:
    return psutil.Process(worker.pid).children(recursive=True)


def test_all_children_come_and_the_control_child(sqlite_place: Place) -> None:
    with sqlite_place.worker(concurrency=7) as worker:
        wait_for(lambda: len(worker.children()) == 7, what="seven children")
        wait_for(lambda: "engine-control" in map(name_of, _all(worker)), what="the control child")
        assert worker.stop() == 0


def test_children_that_cannot_connect_do_not_keep_the_others_from_starting(sqlite_place: Place) -> None:
    place = sqlite_place
    environ = {**place.environ, "SAMPLE_BROKER": "amqp://127.0.0.1:1//", "SAMPLE_BACKEND": "disabled://"}
    with Worker(place.folder, environ, expects_ready=False, concurrency=7) as worker:
        wait_for(lambda: len(worker.children()) == 7, what="seven children")
        assert worker.stop() == 0
