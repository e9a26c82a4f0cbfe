"""Run a program for the length of a test: its output kept, its end sure."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def wait_for(condition: Callable[[], bool], timeout_s: float, what: Callable[[], str]) -> None:
    """Poll until it holds; an AssertionError with ``what()`` when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(what())
        time.sleep(0.02)


@contextlib.contextmanager
def program(
    command: Sequence[str], log: Path, ready: str, environment: Mapping[str, str], timeout_s: float = 30
) -> Iterator[subprocess.Popen[bytes]]:
    """Start it, wait until ``ready`` stands in its log, yield, and end it with its whole process group."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def is_ready() -> bool:
        text = log.read_text(errors="replace")
        assert process.poll() is None, f"{command[0]} ended with {process.returncode}:\n{text}"
        return ready in text

    try:
        wait_for(is_ready, timeout_s, lambda: f"no {ready!r} in:\n{log.read_text(errors='replace')}")
        yield process
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def engine_worker(
    app: str,
    log: Path,
    queue: str,
    environment: Mapping[str, str],
    concurrency: int = 2,
    hostname: str = "engine@%h",
) -> Iterator[subprocess.Popen[bytes]]:
    """``engine run`` on one queue."""
    command = [sys.executable, "-m", "engine", "run", app, "-c", str(concurrency), "-Q", queue]
    command += ["-n", hostname]
    with program(command, log, "ready", environment) as process:
        yield process


@contextlib.contextmanager
def celery_worker(
    python: str, app: str, log: Path, queue: str, environment: Mapping[str, str], mingle: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """A real ``celery worker`` of the interpreter given, on one queue, sending events."""
    command = [python, "-m", "celery", "-A", app, "worker", "-c", "2", "-Q", queue, "-E", "-l", "info"]
    command += ["--without-gossip"] if mingle else ["--without-gossip", "--without-mingle"]
    # a stop of Celery takes its time, and may hang: nothing of ours depends on it, so it is killed
    with program(command, log, " ready.", {**environment, "C_FORCE_ROOT": "1"}) as process:
        yield process
        os.killpg(process.pid, signal.SIGKILL)
