"""Redis claimers killed and cut off at random: no confirmed message is lost, and few come twice.

``CHAOS_TASKS`` and ``CHAOS_SEED`` make it longer, or the same again.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.codec import Message
from engine.errors import TransportError
from tests.transport.redis_support import Desk, desk_at, wait_until
from tools.brokers import Redis

pytestmark = [pytest.mark.redis, pytest.mark.chaos]

TASKS = int(os.environ.get("CHAOS_TASKS", "3000"))
SEED = int(os.environ.get("CHAOS_SEED", "7"))
PREFETCH = 5

#: takes, writes the ledger, acknowledges; connects anew when it is cut off
_CLAIMER = """
    import os, sys, time
    from engine.errors import TransportError
    from engine.transport import TransportOptions
    from engine.transport.redis import RedisTransport

    url, queue, ledger = sys.argv[1:4]
    book = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    transport = RedisTransport(url, TransportOptions(lease=2.0))
    while True:
        try:
            transport.reconnect()
            transport.consume([queue], int(sys.argv[4]))
            while True:
                for delivery in transport.receive(1.0):
                    transport.guard()
                    time.sleep(0.001)
                    transport.unguard()
                    os.write(book, delivery.body + b"\\n")
                    transport.ack([delivery])
        except TransportError:
            time.sleep(0.05)
"""


@pytest.fixture
def desk(tmp_path: Path, unique: str) -> Iterator[Desk]:
    server = Redis(tmp_path / "own")
    server.start()
    with desk_at(server.url, unique) as made:
        yield made
    server.stop()


class Fleet:
    """Claimer processes, and the ledger they write."""

    def __init__(self, url: str, queue: str, folder: Path, size: int) -> None:
        self.ledger = folder / "ledger"
        self.ledger.touch()
        self._command = [
            *(sys.executable, "-c", textwrap.dedent(_CLAIMER)),
            *(url, queue, str(self.ledger), str(PREFETCH)),
        ]
        self.processes = [self._spawn() for _ in range(size)]

    def _spawn(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command)

    def kill(self, index: int, again: bool = True) -> None:
        victim = self.processes[index]
        victim.send_signal(signal.SIGKILL)
        victim.wait(10)
        if again:
            self.processes[index] = self._spawn()

    def runs(self) -> Counter[str]:
        return Counter(self.ledger.read_text().split())

    def end(self) -> None:
        for index in range(len(self.processes)):
            self.kill(index, again=False)


def _publish(desk: Desk, queue: str, start: int, count: int) -> None:
    """Until every one of them is confirmed."""
    transport = desk.open()
    left = [Message(b"%d" % number, routing_key=queue) for number in range(start, start + count)]
    while left:
        try:
            if not transport.connected:
                transport.reconnect()
            outcomes = transport.publish(left[:20])
        except TransportError:
            time.sleep(0.02)
            continue
        left = [m for m, outcome in zip(left[:20], outcomes, strict=True) if outcome is not None] + left[20:]


def _check(fleet: Fleet, desk: Desk, queue: str, allowed: int) -> None:
    wait_until(lambda: len(fleet.runs()) == TASKS, "all to be done", 60)
    watcher = desk.open()
    wait_until(
        lambda: watcher.queue_state(queue).ready == 0 and not desk.raw.hlen("unacked"), "all settled", 20
    )
    fleet.end()
    runs = fleet.runs()
    assert set(runs) == {str(number) for number in range(TASKS)}, f"seed {SEED}"
    duplicates = sum(runs.values()) - TASKS
    assert duplicates <= allowed, f"{duplicates} duplicates, {allowed} allowed (seed {SEED})"


@pytest.mark.slow
def test_killed_claimers_lose_nothing(desk: Desk, tmp_path: Path) -> None:
    queue = desk.queue()
    chance = random.Random(SEED)
    fleet = Fleet(desk.url, queue, tmp_path, 3)
    try:
        publisher = threading.Thread(target=_publish, args=(desk, queue, 0, TASKS))
        publisher.start()
        kills = 0
        while len(fleet.runs()) < TASKS * 0.9 and kills < TASKS // 100:
            target = min(TASKS, len(fleet.runs()) + chance.randrange(1, 80))
            wait_until(lambda least=target: len(fleet.runs()) >= least, "work", 60)
            fleet.kill(chance.randrange(3))
            kills += 1
        publisher.join()
        assert kills >= 8
        _check(fleet, desk, queue, kills * PREFETCH)
    finally:
        fleet.end()


@pytest.mark.slow
def test_cut_connections_lose_nothing(desk: Desk, tmp_path: Path) -> None:
    """Claimers and the publisher: what was not confirmed is published again."""
    queue = desk.queue()
    fleet = Fleet(desk.url, queue, tmp_path, 2)
    try:
        publisher = threading.Thread(target=_publish, args=(desk, queue, 0, TASKS))
        publisher.start()
        cuts = 0
        while len(fleet.runs()) < TASKS * 0.9 and cuts < TASKS // 50:
            time.sleep(0.05)
            cuts += sum(_cut(desk, client) for client in desk.raw.client_list() if client["name"] == "engine")
        publisher.join()
        assert cuts >= 10
        _check(fleet, desk, queue, cuts * 20)
    finally:
        fleet.end()


def _cut(desk: Desk, client: dict[str, str]) -> int:
    return int(desk.raw.client_kill_filter(_id=client["id"]))
