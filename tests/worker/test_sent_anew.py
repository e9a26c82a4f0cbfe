"""An id that was finished before is sent anew: whatever befalls the new message, it is run."""

from __future__ import annotations

from tests.worker.conftest import Place
from tests.worker.harness import wait_for


def test_it_is_handed_back_by_a_busy_child(place: Place) -> None:
    gate = place.gate()
    with place.worker(concurrency=2, prefetch=20) as worker:
        place.send("work", "one", task_id="same")
        wait_for(lambda: place.ledger.finished()["one"], what="the first message of that id")
        place.send("work", "first", str(gate))
        wait_for(lambda: place.ledger.count("start", "first"), what="one child to be busy")
        with place.app.batch() as box:
            place.send("work", "second", 1, producer=box)
            place.send("work", "two", task_id="same", producer=box)
        wait_for(lambda: place.ledger.finished()["two"], what="the second message of that id")
        gate.touch()
        assert worker.stop() == 0


def test_it_is_given_back_at_the_end(place: Place) -> None:
    with place.worker(concurrency=1, prefetch=20) as worker:
        place.send("work", "one", task_id="same")
        wait_for(lambda: place.ledger.finished()["one"], what="the first message of that id")
        place.send("work", "first", 0.5)
        place.send("work", "two", task_id="same")
        wait_for(lambda: place.ledger.count("start", "first"), what="the child to be busy")
        assert worker.stop() == 0
    with place.worker(concurrency=1):
        wait_for(lambda: place.ledger.finished()["two"], what="the second message of that id")


def test_it_kills_its_child(place: Place) -> None:
    with place.worker(concurrency=1) as worker:
        place.send("work", "one", task_id="same")
        wait_for(lambda: place.ledger.finished()["one"], what="the first message of that id")
        place.send("die", "two", task_id="same")
        wait_for(lambda: place.ledger.count("start", "two") == 3, what="it to be tried three times")
        assert worker.stop() == 0
