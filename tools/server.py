"""A server process of our own: free ports, its own folder, and a sure end. RabbitMQ and Redis build on it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tools.debian import BrokerUnavailable


def free_port() -> int:
    """A TCP port that was free just now on the loopback address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Poll a condition every 20 ms; BrokerUnavailable when it does not come true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise BrokerUnavailable(f"{what} within {timeout_s:.0f} s")
        time.sleep(0.02)


def pid_alive(pid: int) -> bool:
    """Whether the process exists and has not ended (a zombie has)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def threads_in(group: int, states: str) -> bool:
    """Whether every thread of a process group is in one of these states (proc(5): T stands still, t when
    traced, Z and X have ended). Those that are gone are in all."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if os.getpgid(int(stat.parent.name)) != group:
                continue
            for thread in stat.parent.glob("task/*/stat"):
                if thread.read_text().rpartition(")")[2].split()[0] not in states:
                    return False
        except OSError:
            continue  # the process or the thread has ended meanwhile
    return True


class Server(ABC):
    """One private server. ``start`` and ``stop`` may be called in turn; the data folder and ports stay."""

    name: str
    start_timeout_s = 60.0

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.pid: int | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str: ...

    @abstractmethod
    def command(self) -> Sequence[str]: ...

    @abstractmethod
    def answers(self) -> bool:
        """Whether it serves clients by now."""

    def environment(self) -> Mapping[str, str]:
        return dict(os.environ)

    def start(self) -> None:
        """Start it and wait until it answers. Raises BrokerUnavailable with the end of its log."""
        log = self.folder / "server.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                self.command(),
                env=self.environment(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.pid = self._process.pid
        try:
            wait_until(self._up, self.start_timeout_s, f"{self.name} did not answer on port {self.port}")
        except BrokerUnavailable as error:
            self.kill()
            tail = log.read_text(errors="replace")[-1500:]
            raise BrokerUnavailable(f"{error}; its log ends:\n{tail}") from None

    def _up(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise BrokerUnavailable(f"{self.name} ended with exit code {self._process.returncode}")
        return self.answers()

    @property
    def running(self) -> bool:
        return self.pid is not None and pid_alive(self.pid)

    def stop(self) -> None:
        """End it in order; killed when it takes longer than 20 s."""
        if self.pid is None:
            return
        self.signal(signal.SIGTERM)
        try:
            self._reap(20.0)
        except BrokerUnavailable:
            self.kill()
        self.pid = None

    def kill(self) -> None:
        """SIGKILL, as a crash would. Afterwards none of its connections is open."""
        pid = self.pid
        if pid is not None:
            self.signal(signal.SIGKILL)
            self._reap(10.0)
            wait_until(lambda: threads_in(pid, "ZX"), 10.0, f"{self.name} did not end")
            self.pid = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server and all its processes. After SIGSTOP all its threads stand still.

        ``killpg`` returns earlier: a thread that runs on another core may still answer one question.
        """
        pid = self.pid
        if pid is None:
            return
        try:
            os.killpg(pid, number)
        except ProcessLookupError:
            return
        if number == signal.SIGSTOP:
            wait_until(lambda: threads_in(pid, "TtZX"), 10.0, f"{self.name} did not stop")

    def _reap(self, timeout_s: float) -> None:
        pid = self.pid
        assert pid is not None
        process = self._process

        def ended() -> bool:
            return process.poll() is not None if process is not None else not pid_alive(pid)

        wait_until(ended, timeout_s, f"{self.name} did not end")
        self._process = None
