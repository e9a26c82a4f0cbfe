"""SIGHUP loads new code, child by child; code that cannot be loaded changes nothing."""

from __future__ import annotations

import signal

from tests.worker.conftest import Place
from tests.worker.harness import Worker, wait_for

_APP = """
from tests.worker.sample_app import app

@app.task(name="version")
def version():
    return {version!r}
"""


def test_new_code_without_a_lost_task(sqlite_place: Place) -> None:
    place = sqlite_place
    code = place.folder / "changing_app.py"
    code.write_text(_APP.format(version="one"))
    with Worker(place.folder, place.environ, app="changing_app:app", concurrency=3) as worker:
        assert place.app.send_task("version").get(timeout=20) == "one"
        before = {child.pid for child in worker.children()}
        place.send_many("work", range(300), 0.01)
        wait_for(lambda: place.ledger.count("start") > 10, what="work to go on")
        code.write_text(_APP.format(version="number two"))
        worker.send_signal(signal.SIGHUP)
        wait_for(lambda: len(place.ledger.finished()) == 300, timeout=40, what="all tasks")
        wait_for(lambda: not before & {child.pid for child in worker.children()}, what="new children")
        assert len(wait_for(lambda: len(worker.children()) == 3 and worker.children())) == 3
        assert place.app.send_task("version").get(timeout=20) == "number two"
        assert worker.stop() == 0
    assert set(place.ledger.finished().values()) == {1}
    assert "killed" not in worker.log()
    assert worker.descendants_alive() == []


def test_broken_code_is_not_taken(sqlite_place: Place) -> None:
    place = sqlite_place
    code = place.folder / "breaking_app.py"
    code.write_text(_APP.format(version="one"))
    with Worker(place.folder, place.environ, app="breaking_app:app", concurrency=1) as worker:
        before = {child.pid for child in worker.children()}
        code.write_text("this is no python\n")
        worker.send_signal(signal.SIGHUP)
        wait_for(lambda: "could not be loaded, the old one goes on" in worker.log(), what="the log line")
        assert "SyntaxError" in worker.log()
        assert place.app.send_task("version").get(timeout=20) == "one"
        assert {child.pid for child in worker.children()} == before
        code.write_text(_APP.format(version="mended version"))
        worker.send_signal(signal.SIGHUP)
        wait_for(lambda: before.isdisjoint(child.pid for child in worker.children()), what="a new child")
        assert place.app.send_task("version").get(timeout=20) == "mended version"
        assert worker.stop() == 0
    assert worker.descendants_alive() == []
