"""Processes that are held until the clock starts."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from engine.bench.measuring import Run
from engine.bench.plan import Plan
from engine.bench.sides import ENGINE
from engine.bench.standstill import let_go
from engine.bench.tasks import GO, HELD, make_tasks
from tests.transport.sqlite_support import wait_until


def test_who_is_held_is_let_go_and_nobody_later_on_is_held(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / GO)
    hold = make_tasks(str(tmp_path)).hold
    held = threading.Thread(target=hold, daemon=True)
    held.start()
    wait_until(lambda: (tmp_path / HELD / str(os.getpid())).exists(), "the task to say that it is held")
    with let_go(Run(ENGINE, Plan("sqlite://", folder=str(tmp_path)), None, print)):
        held.join(20)
        assert not held.is_alive()
        hold()


def test_it_waits_for_nobody_where_all_have_died(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / GO)
    with let_go(Run(ENGINE, Plan("sqlite://", folder=str(tmp_path)), None, print)):
        pass
