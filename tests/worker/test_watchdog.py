"""Who is killed for being deaf, and who is not."""

from __future__ import annotations

import fcntl
import os
import time

from tests.worker.conftest import Place
from tests.worker.harness import wait_for


def test_the_end_of_a_long_task_is_a_sign_of_life(sqlite_place: Place) -> None:
    """It ran for longer than a child may be deaf, and settling it takes longer than the supervisor looks."""
    sqlite_place.environ["SAMPLE_REMOTE"] = "0"  # a control child that starts late would wait for us too
    with sqlite_place.worker(concurrency=1, deaf_after_s=1.5) as worker:
        sqlite_place.send("work", "long", 2.5)
        wait_for(lambda: sqlite_place.ledger.count("start", "long"), what="the task to start")
        line = os.open(sqlite_place.folder / "broker.db-writer", os.O_RDWR)
        try:
            fcntl.flock(line, fcntl.LOCK_EX)  # settling waits for us
            wait_for(lambda: sqlite_place.ledger.finished()["long"], what="the task to end")
            time.sleep(0.8)  # three looks of the supervisor
        finally:
            os.close(line)
        wait_for(lambda: sqlite_place.send("add", 1, 1).get(timeout=10) == 2, what="the next task")
        assert "no sign of life" not in worker.log()
        assert worker.stop() == 0
    assert sqlite_place.ledger.finished()["long"] == 1
