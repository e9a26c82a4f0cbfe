"""The processes of a bench or a demo, started and ended: workers, publishers. None outlives its ``with``."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, cast

import engine
from engine.bench.cpu import CpuMeter
from engine.bench.plan import Plan
from engine.errors import EngineError

STOP_TIMEOUT_S = 30.0
REPLY_TIMEOUT_S = 600.0
_LOG_TAIL = 400  # characters of a dead process's log that are shown


@contextmanager
def ends_all() -> Iterator[None]:
    """SIGTERM ends what runs in here as Ctrl-C does: its processes first. Nothing changes beside the main
    thread, which alone hears signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Process:
    """A subprocess in a session of its own, with its stderr in a file of the bench's folder."""

    def __init__(
        self, command: Sequence[str], folder: Path, environ: Mapping[str, str], name: str, *, talks: bool
    ) -> None:
        self._name = name
        self._log = folder / f"{name}.log"
        pipe = subprocess.PIPE if talks else None
        self.started_s = time.monotonic()
        with self._log.open("ab") as log:
            self.popen = subprocess.Popen(  # noqa: S603 - our own interpreter
                [sys.executable, *command],
                env=_with_this_package(environ),
                cwd=folder,
                stdin=pipe or subprocess.DEVNULL,
                stdout=pipe or log,
                stderr=log,
                start_new_session=True,
            )
        self.meter = CpuMeter([self.popen.pid])

    def check(self) -> None:
        """Raises EngineError with the end of its log when it has ended."""
        code = self.popen.poll()
        if code is not None:
            raise EngineError(f"the {self._name} ended early with status {code}: {self.log_tail()}")

    def log_tail(self) -> str:
        """The end of what it wrote to stderr."""
        return (
            self._log.read_text(encoding="utf-8", errors="replace")[-_LOG_TAIL:].strip()
            or "it logged nothing"
        )

    def kill(self) -> None:
        """End it and all it started, now."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()


class Worker(Process):
    """A real worker, as a user starts it."""

    def __init__(self, command: Sequence[str], folder: Path, environ: Mapping[str, str], name: str) -> None:
        super().__init__(command, folder, environ, f"{name}-worker", talks=False)

    def __enter__(self) -> Worker:
        return self

    def stop(self) -> None:
        """Ask it to end and wait until it has settled what it ran."""
        self.popen.send_signal(signal.SIGTERM)
        try:
            self.popen.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        try:
            if self.popen.poll() is None:
                self.stop()
        finally:  # also after a second Ctrl-C
            self.kill()


class Publisher(Process):
    """A publishing process: `engine.bench.publisher`."""

    def __init__(self, module: str, plan: Plan, name: str) -> None:
        command = ["-m", "engine.bench.publisher", module]
        super().__init__(command, Path(plan.folder), plan.to_env(), f"{name}-publisher", talks=True)
        self._requests = cast("IO[bytes]", self.popen.stdin)
        self._answers = cast("IO[bytes]", self.popen.stdout)

    def __enter__(self) -> Publisher:
        try:
            self._read()
        except BaseException:
            self.kill()
            raise
        return self

    def ask(self, deed: str, count: int) -> dict[str, Any]:
        """Let it do something; its answer. Raises EngineError when it dies instead."""
        with contextlib.suppress(BrokenPipeError):
            self._requests.write(json.dumps({"do": deed, "count": count}).encode() + b"\n")
            self._requests.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        with selectors.DefaultSelector() as selector:
            selector.register(self._answers, selectors.EVENT_READ)
            if not selector.select(REPLY_TIMEOUT_S):
                raise EngineError(
                    f"the {self._name} did not answer within {REPLY_TIMEOUT_S:.0f} s: {self.log_tail()}"
                )
        line = self._answers.readline()
        if not line:
            self.popen.wait()
            self.check()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        try:
            with contextlib.suppress(BrokenPipeError):
                self._requests.close()
            if kind is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.popen.wait(STOP_TIMEOUT_S)
        finally:
            self.kill()
            self._answers.close()


def _with_this_package(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment, with this very package ahead of any other of its name."""
    root = str(Path(engine.__file__).resolve().parent.parent)
    path = environ.get("PYTHONPATH")
    return {**environ, "PYTHONPATH": f"{root}{os.pathsep}{path}" if path else root}
