"""A real worker in a real process, and what tests ask of it. Every wait has a deadline."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]

_PROGRAM = """
import json, sys
from engine.worker import WorkerOptions, run_worker
app, options = sys.argv[1], json.loads(sys.argv[2])
options["queues"] = tuple(options["queues"]) if options.get("queues") else None
sys.exit(run_worker(app, WorkerOptions(**options)))
"""


def wait_for(condition: Callable[[], Any], timeout: float = 20.0, what: str = "") -> Any:
    """What ``condition`` returns once it is true. Fails at the deadline, with what was waited for."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout} s in vain for {what or condition}")
        time.sleep(0.02)


class Ledger:
    """The file in which tasks write down what they do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[list[str]]:
        if not self.path.exists():
            return []
        return [line.split() for line in self.path.read_text().splitlines()]

    def pid_of(self, *words: Any) -> int:
        """The process that wrote the last line that begins with these words; others write meanwhile."""
        wanted = [str(word) for word in words]
        return int([line for line in self.lines() if line[: len(wanted)] == wanted][-1][len(wanted)])

    def count(self, *words: Any) -> int:
        """How many lines begin with these words."""
        wanted = [str(word) for word in words]
        return sum(line[: len(wanted)] == wanted for line in self.lines())

    def finished(self) -> Counter[str]:
        """How often each key was finished."""
        return Counter(line[1] for line in self.lines() if line[0] == "finish")


class Worker:
    """A worker process. Leaving the ``with`` ends it, and all it started, whatever happened."""

    def __init__(
        self,
        folder: Path,
        environ: dict[str, str],
        app: str = "tests.worker.sample_app:app",
        expects_ready: bool = True,
        **options: Any,
    ) -> None:
        self.options = {"concurrency": 2, **options}
        self.app = app
        self.expects_ready = expects_ready
        self.log_path = folder / f"worker-{time.monotonic_ns()}.log"
        self.environ = {
            **os.environ,
            **environ,
            "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
            "PYTHONFAULTHANDLER": "1",
        }
        self.process: subprocess.Popen[bytes] | None = None
        self._seen: set[psutil.Process] = set()

    def __enter__(self) -> Worker:
        return self.start(ready=self.expects_ready)

    def __exit__(self, *exc_info: object) -> None:
        for process in {*self._descendants(), *self._seen}:
            if process.is_running():
                process.kill()
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)

    def start(self, ready: bool = True) -> Worker:
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, self.app, json.dumps(self.options)],
                env=self.environ,
                cwd=ROOT,
                stderr=log,
                stdout=log,
                start_new_session=True,
            )
        if ready:
            wait_for(lambda: " ready" in self.log() or self.code() is not None, what="the worker to be ready")
            assert self.code() is None, self.log()
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def code(self) -> int | None:
        assert self.process is not None
        return self.process.poll()

    def _descendants(self) -> list[psutil.Process]:
        if self.process is None:
            return []
        try:
            found = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        self._seen.update(found)
        return found

    def children(self) -> list[psutil.Process]:
        """The children proper (not the template)."""
        return [child for child in self._descendants() if name_of(child).startswith("engine-child")]

    def template(self) -> list[psutil.Process]:
        """The process that forks the children."""
        others = ("engine-child", "engine-control")
        return [child for child in self._descendants() if not name_of(child).startswith(others)]

    def descendants_alive(self) -> list[psutil.Process]:
        """Every process that was ever seen below the worker and still lives."""
        self._descendants()
        return [process for process in self._seen if _alive(process)]

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout: float = 20.0) -> int:
        """Signal it and wait for its end; the exit code."""
        self.descendants_alive()
        self.send_signal(number)
        return self.wait(timeout)

    def wait(self, timeout: float = 20.0) -> int:
        assert self.process is not None
        return self.process.wait(timeout)


def name_of(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return ""


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
