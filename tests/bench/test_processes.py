"""The processes of a bench end with it, however it ends."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from engine.bench.processes import Worker
from tests.transport.sqlite_support import wait_until

STUBBORN = """
import pathlib, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path("up").touch()
time.sleep(600)
"""


def test_a_second_interrupt_leaves_no_worker(tmp_path: Path) -> None:
    """It comes while the first one waits for the worker to end."""
    worker = Worker(["-c", STUBBORN], tmp_path, dict(os.environ), "stubborn")
    wait_until(lambda: (tmp_path / "up").exists(), "the worker to start", 20)
    second = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))

    def first() -> None:
        with worker:
            second.start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        first()
    assert worker.popen.returncode == -signal.SIGKILL
    second.join()
