"""How much CPU time processes have used, their children included, to the nanosecond.

The figures of ``/proc/<pid>/stat`` come in ticks of 10 ms, too coarse for a short run. Linux has a CPU
clock for every process (clock_getcpuclockid(3)) that counts all its threads, those that have ended too;
psutil is the way where that clock is refused.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import psutil

from engine.errors import EngineError
from engine.transport.url import BrokerURL

_CPUCLOCK_SCHED = 2  # linux/posix-timers.h: MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED) is (~pid << 3) | 2

DEFAULT_PORTS = {"amqp": 5672, "amqps": 5671, "pyamqp": 5672, "redis": 6379, "rediss": 6379}


def cpu_s(pid: int) -> float | None:
    """User and system CPU seconds one process has used until now; None when it is gone."""
    try:
        return time.clock_gettime_ns((~pid << 3) | _CPUCLOCK_SCHED) / 1e9
    except OSError:
        pass
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return None
    return float(times.user + times.system)


def process_tree(pid: int) -> list[int]:
    """The process and all its descendants; empty when it is gone.

    The kernel's own lists, where it keeps them: psutil compares start times by the wall clock, and leaves a
    child out when that was set back meanwhile."""
    try:
        return [pid, *_descendants(pid)]
    except OSError:
        pass
    try:
        root = psutil.Process(pid)
        return [root.pid, *(child.pid for child in root.children(recursive=True))]
    except psutil.Error:
        return []


def _descendants(pid: int) -> Iterator[int]:
    """From ``/proc/<pid>/task/<tid>/children`` (proc(5)). Raises FileNotFoundError where there is none."""
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as listed:
            children = [int(child) for child in listed.read().split()]
        for child in children:
            yield child
            with contextlib.suppress(OSError):  # it has ended since
                yield from _descendants(child)


class CpuMeter:
    """CPU seconds of some processes and whatever they have started, since they began.

    A process that ended keeps its last reading, so that the sum never falls."""

    def __init__(self, roots: Iterable[int]) -> None:
        self._roots = tuple(roots)
        self._last: dict[int, float] = {}

    def read_s(self) -> float:
        """The sum until now."""
        for root in self._roots:
            for pid in process_tree(root):
                used = cpu_s(pid)
                if used is not None:
                    self._last[pid] = used
        return sum(self._last.values())


@dataclass(frozen=True, slots=True)
class BrokerProcess:
    """The broker as a process of this machine."""

    pid: int
    name: str

    def meter(self) -> CpuMeter:
        return CpuMeter([self.pid])


def find_broker(url: str) -> BrokerProcess | None:
    """The process that listens on the URL's port, when that is this machine and may be seen; else None."""
    host, port = broker_address(url)
    if port is None or not is_local(host):
        return None
    with contextlib.suppress(psutil.Error):
        for link in psutil.net_connections(kind="tcp"):
            if link.status == psutil.CONN_LISTEN and link.pid and link.laddr and link.laddr.port == port:
                return BrokerProcess(link.pid, psutil.Process(link.pid).name())
    return None


def broker_address(url: str) -> tuple[str, int | None]:
    """Host and TCP port of a broker URL, the first of several; no port for a file or what is no URL."""
    try:
        parsed = BrokerURL.parse(url.split(";")[0].strip())
    except EngineError:
        return "", None
    return parsed.host or "localhost", parsed.port or DEFAULT_PORTS.get(parsed.scheme.rpartition("+")[2])


def is_local(host: str) -> bool:
    """Whether a host name or address is this machine."""
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    own = {address.address for addresses in psutil.net_if_addrs().values() for address in addresses}
    return any(ipaddress.ip_address(address).is_loopback or address in own for address in found)
