"""Owners: alive while their process holds the lock, dead the moment it is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engine.errors import ConnectionLost
from engine.model import QueueSpec
from engine.transport import sqlite_liveness
from engine.transport.sqlite_schema import FIRST_OWNER
from tests.transport.sqlite_support import in_child, opened, publish


def test_alive_while_held(tmp_path: Path) -> None:
    owners = sqlite_liveness.enter(tmp_path / "engine.db")
    assert not owners.alive(FIRST_OWNER)
    owners.hold(FIRST_OWNER)
    owners.hold(FIRST_OWNER + 1)
    assert owners.alive(FIRST_OWNER), "the kernel doesn't tell us of our own locks"
    owners.release(FIRST_OWNER)
    assert not owners.alive(FIRST_OWNER)
    assert owners.alive(FIRST_OWNER + 1)
    sqlite_liveness.leave(owners)


def test_the_file_is_opened_once_a_process(tmp_path: Path) -> None:
    """A second descriptor, closed, would drop the locks of the first."""
    first = sqlite_liveness.enter(tmp_path / "engine.db")
    first.hold(FIRST_OWNER)
    second = sqlite_liveness.enter(tmp_path / "engine.db")
    assert first is second
    sqlite_liveness.leave(second)
    assert os.waitpid(in_child(lambda: _expect(tmp_path, alive=True)), 0)[1] == 0
    sqlite_liveness.leave(first)
    assert os.waitpid(in_child(lambda: _expect(tmp_path, alive=False)), 0)[1] == 0


def _expect(tmp_path: Path, *, alive: bool) -> None:
    owners = sqlite_liveness.enter(tmp_path / "engine.db")
    assert owners.alive(FIRST_OWNER) is alive


def test_a_child_forked_by_a_task_keeps_nobody_alive(tmp_path: Path) -> None:
    """The consumer dies, a process it forked lives on: what it held comes back all the same."""
    path = tmp_path / "engine.db"
    reading, writing = os.pipe()

    def consume_and_fork() -> None:
        with opened(path) as own:
            own.consume(["q"], 1)
            assert own.receive(5)
            grandchild = in_child(lambda: signal.pause())
            os.write(writing, b"%d\n" % grandchild)
            os.kill(os.getpid(), signal.SIGKILL)

    with opened(path) as transport:
        transport.declare(QueueSpec("q"))
        publish(transport, "q", b"x")
        pid = in_child(consume_and_fork)
        grandchild = int(os.read(reading, 20))
        os.waitpid(pid, 0)
        try:
            transport.consume(["q"], 1)
            [delivery] = transport.receive(2)
            assert delivery.redelivered
            assert delivery.delivery_count == 1
        finally:
            os.kill(grandchild, signal.SIGKILL)
            os.close(reading)
            os.close(writing)


_CONSUMER = """
import os, sys
from pathlib import Path
from tests.transport.sqlite_support import opened
with opened(Path(sys.argv[1])) as transport:
    transport.consume(["q"], 10)
    taken = transport.receive(10)
    print(len(taken), flush=True)
    sys.stdin.read()
"""


def test_a_killed_process_is_seen_at_once_by_an_idle_consumer(tmp_path: Path) -> None:
    path = tmp_path / "engine.db"
    with opened(path) as transport:
        transport.declare(QueueSpec("q"))
        publish(transport, "q", *(b"%d" % number for number in range(10)))
        arguments = [sys.executable, "-c", _CONSUMER, str(path)]
        with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"10\n"
            transport.consume(["q"], 100)
            assert transport.receive(0.1) == [], "it is alive"
            assert transport.queue_state("q").consumers == 2
            process.kill()
            process.wait(10)
        taken = transport.receive(3)
        assert [delivery.body for delivery in taken] == [b"%d" % number for number in range(10)]
        assert all(delivery.redelivered for delivery in taken)
        assert transport.queue_state("q").consumers == 1


def test_recovering_is_cheap_and_idempotent(tmp_path: Path) -> None:
    with opened(tmp_path / "engine.db") as first, opened(tmp_path / "engine.db") as second:
        first.declare(QueueSpec("q"))
        publish(first, "q", b"a", b"b")
        first.consume(["q"], 2)
        assert len(first.receive(1)) == 2
        assert second.recover() == 0
        first.abandon()
        assert second.recover() == 2
        assert second.recover() == 0
        assert second.shared_connection.connection.execute("SELECT count(*) FROM owners").get == 0


def test_an_owner_s_id_is_never_used_again(tmp_path: Path) -> None:
    path = tmp_path / "engine.db"
    seen = []
    for _ in range(3):
        with opened(path) as transport:
            transport.declare(QueueSpec("q"))
            transport.consume(["q"], 1)
            seen.append(transport.shared_connection.connection.execute("SELECT id FROM owners").get)
    assert seen == [FIRST_OWNER + 1, FIRST_OWNER + 2, FIRST_OWNER + 3]


def test_an_owner_that_was_rolled_back_is_none(tmp_path: Path) -> None:
    """Else it would claim by an id that nobody could recover, or that somebody else is given too."""
    path = tmp_path / "engine.db"
    with opened(path) as transport:
        transport.declare(QueueSpec("q"))
        publish(transport, "q", b"x")
        connection = transport.shared_connection.connection
        connection.execute(
            "CREATE TEMP TRIGGER full AFTER INSERT ON owners BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
        with pytest.raises(ConnectionLost):
            transport.consume(["q"], 1)
        connection.execute("DROP TRIGGER full")
        transport.consume(["q"], 1)
        assert len(transport.receive(1)) == 1
        [(owner,)] = connection.execute("SELECT id FROM owners").fetchall()
        assert connection.execute("SELECT count(*) FROM messages WHERE owner = ?", (owner,)).get == 1
        transport.abandon()
    with opened(path) as other:
        assert other.recover() == 1
