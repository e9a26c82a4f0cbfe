"""A small application in a folder of its own, and a worker for it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.command import environment

APP = """
from engine import Engine

app = Engine("shop")


@app.task
def add(x, y):
    return x + y


@app.task
def fail(reason):
    raise ValueError(reason)


@app.task
def many(count):
    return {"items": list(range(count)), "name": "Zoë"}
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """The folder that holds shop.py."""
    (tmp_path / "shop.py").write_text(APP)
    return tmp_path


@pytest.fixture
def start_worker(shop: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts `engine run` with further arguments; ends it in order, or the test fails."""
    started: list[tuple[subprocess.Popen[bytes], Path]] = []

    def start(*arguments: str, environ: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        log = shop / f"worker-{len(started)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "engine", "run", "shop", *arguments],
                cwd=shop,
                env=environment(environ),
                stdout=output,
                stderr=output,
            )
        started.append((process, log))
        return process

    yield start
    for process, log in started:
        try:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0, log.read_text()
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def wait_for() -> Callable[[Callable[[], object], str], None]:
    """Waits until something holds; fails with words after a deadline."""

    def wait(condition: Callable[[], object], what: str, deadline_s: float = 30.0) -> None:
        end_s = time.monotonic() + deadline_s
        while not condition():
            assert time.monotonic() < end_s, f"waited {deadline_s:g} s: {what}"
            time.sleep(0.05)

    return wait
