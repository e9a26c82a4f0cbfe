"""Opening a broker file, writing in turn, and what a forked child does with it."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import apsw
import pytest

from engine.errors import ConfigurationError, ConnectionFailed, ConnectionLost
from engine.model import QueueSpec
from engine.transport.sqlite_database import Database
from engine.transport.sqlite_schema import SCHEMA_VERSION
from tests.transport.sqlite_support import in_child, opened, publish, wait_until


def test_a_new_file(tmp_path: Path) -> None:
    database = Database(tmp_path / "engine.db")
    connection = database.connection
    assert connection.pragma("journal_mode") == "wal"
    assert connection.pragma("auto_vacuum") == 2
    assert connection.pragma("user_version") == SCHEMA_VERSION
    assert tuple(map(int, apsw.sqlite_lib_version().split("."))) >= (3, 51, 3), "a WAL race is fixed there"
    database.close()
    database.close()


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    database = Database(tmp_path / "engine.db")
    database.connection.pragma("user_version", SCHEMA_VERSION + 1)
    database.close()
    with pytest.raises(ConfigurationError, match="newer version"):
        Database(tmp_path / "engine.db")


@pytest.mark.parametrize("version", [0, 1, 7])
def test_another_program_s_database_is_refused(tmp_path: Path, version: int) -> None:
    other = apsw.Connection(str(tmp_path / "engine.db"))
    other.execute("CREATE TABLE theirs(x)")
    other.pragma("user_version", version)
    other.close()
    with pytest.raises(ConfigurationError, match="another program's"):
        Database(tmp_path / "engine.db")


def test_no_database_at_all(tmp_path: Path) -> None:
    (tmp_path / "engine.db").write_bytes(b"x" * 5000)
    with pytest.raises(ConnectionFailed, match="not a database"):
        Database(tmp_path / "engine.db")


def test_a_damaged_file_is_told_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "b.db"
    database = Database(path)
    database.close()
    content = bytearray(path.read_bytes())
    content[100:] = b"\xa5" * (len(content) - 100)
    path.write_bytes(content)
    with pytest.raises(ConnectionFailed, match=r"b\.db is damaged.*malformed.*keep a copy"):
        Database(path)
    path.write_bytes(b"no database, but long enough to be one: " * 200)
    with pytest.raises(ConnectionFailed, match=r"b\.db is damaged.*not a database"):
        Database(path)


def test_many_open_a_new_file_at_once(tmp_path: Path) -> None:
    def open_it() -> None:
        with opened(tmp_path / "engine.db") as transport:
            transport.declare(QueueSpec("q"))
            publish(transport, "q", b"x")

    pids = [in_child(open_it) for _ in range(8)]
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 8
    with opened(tmp_path / "engine.db") as transport:
        assert transport.queue_state("q").ready == 8


def test_what_fails_is_rolled_back(tmp_path: Path) -> None:
    database = Database(tmp_path / "engine.db")
    called: list[str] = []
    with pytest.raises(RuntimeError, match="half-way"), database.write() as connection:  # noqa: PT012
        connection.execute("INSERT INTO exchanges VALUES('x', 'direct')")
        database.after_commit(lambda: called.append("never"))
        raise RuntimeError("half-way")
    with database.write() as connection:
        database.after_commit(lambda: called.append("after"))
        assert called == []
    assert called == ["after"]
    assert database.connection.execute("SELECT count(*) FROM exchanges").get == 0
    database.close()


@pytest.mark.alone
def test_writers_wait_in_line(tmp_path: Path) -> None:
    """The next writer starts when the one before ends, not when a back-off happens to be over."""
    first, second = Database(tmp_path / "engine.db"), Database(tmp_path / "engine.db")
    inode = (tmp_path / "engine.db-writer").stat().st_ino
    entered_mono_s: list[float] = []

    def write_too() -> None:
        with second.write() as connection:
            entered_mono_s.append(time.monotonic())
            connection.execute("INSERT INTO exchanges VALUES('x', 'direct')")

    def waits_in_the_kernel() -> bool:
        locks = Path("/proc/locks").read_text().splitlines()
        return any("-> FLOCK" in line and f":{inode} " in line for line in locks)

    thread = threading.Thread(target=write_too)
    with first.write():
        thread.start()
        wait_until(waits_in_the_kernel, "the second writer to stand in line")
        assert entered_mono_s == []
        ended_mono_s = time.monotonic()
    thread.join(10)
    assert 0 <= entered_mono_s[0] - ended_mono_s < 0.25
    first.close()
    second.close()


def test_only_publishing_waits_for_the_disk(tmp_path: Path) -> None:
    database = Database(tmp_path / "engine.db")
    normal, full = 1, 2
    with database.write(durable=True) as connection:
        assert connection.pragma("synchronous") == full
    with database.write() as connection:
        assert connection.pragma("synchronous") == normal
    database.close()


def test_a_file_replaced_under_us_is_told(tmp_path: Path) -> None:
    path = tmp_path / "engine.db"
    with opened(path) as transport:
        transport.recover()
        path.unlink()
        with pytest.raises(ConnectionLost, match="deleted or replaced"):
            transport.recover()


def test_free_pages_are_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.transport.sqlite_database._FREE_PAGES", 100)
    with opened(tmp_path / "engine.db") as transport:
        transport.declare(QueueSpec("q"))
        publish(transport, "q", *(b"x" * 4000 for _ in range(300)))
        transport.purge("q")
        assert transport.shared_connection.connection.pragma("freelist_count") > 100
        for _ in range(20):
            transport.recover()
        assert transport.shared_connection.connection.pragma("freelist_count") <= 100


def test_the_log_does_not_grow_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "engine.db"
    with opened(path) as transport:
        transport.declare(QueueSpec("q"))
        transport.consume(["q"], 0)
        for _ in range(60):
            publish(transport, "q", *(b"x" * 20_000 for _ in range(100)))
            transport.ack(transport.receive(1))
        assert (tmp_path / "engine.db-wal").stat().st_size < 48 * 1024 * 1024


# -- fork ----------------------------------------------------------------------------------------------


def test_parent_and_children_use_the_file_each_by_a_connection_of_its_own(tmp_path: Path) -> None:
    """SQLite keeps its knowledge of locks by process: a child that inherited an open connection and opened
    its own would take no locks at all, if ours had not been closed there."""
    path = tmp_path / "engine.db"
    reading, writing = os.pipe()

    def publish_in_child() -> None:
        with opened(path) as own:
            os.read(reading, 1)
            for _ in range(100):
                publish(own, "q", b"child" * 50)

    with opened(path) as transport:
        transport.declare(QueueSpec("q"))
        publish(transport, "q", b"before")
        pids = [in_child(publish_in_child) for _ in range(4)]
        os.write(writing, b"!!!!")
        for _ in range(50):
            publish(transport, "q", b"parent" * 50)
    # the parent has closed; with it went every lock the children might have believed in
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 4
    os.close(reading)
    os.close(writing)
    with opened(path) as transport:
        assert transport.queue_state("q").ready == 1 + 400 + 50
        assert transport.shared_connection.connection.pragma("integrity_check") == "ok"


def test_a_child_forked_in_the_middle_of_a_write_is_kept_out(tmp_path: Path) -> None:
    path = tmp_path / "engine.db"
    database = Database(path)

    def try_it() -> None:
        assert not hasattr(database, "connection")
        with pytest.raises(ConnectionFailed, match="forked while a thread was writing"):
            Database(path)
        links = [f"/proc/self/fd/{entry}" for entry in os.listdir("/proc/self/fd")]
        names = [os.readlink(link) for link in links if os.path.lexists(link)]
        assert not [name for name in names if name.startswith(str(path))]

    with database.write() as connection:
        connection.execute("INSERT INTO exchanges VALUES('x', 'direct')")
        pid = in_child(try_it)
        assert os.waitpid(pid, 0)[1] == 0
    assert database.connection.execute("SELECT count(*) FROM exchanges").get == 1
    assert database.connection.pragma("integrity_check") == "ok"
    database.close()
