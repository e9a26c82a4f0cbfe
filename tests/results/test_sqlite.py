"""Results in an SQLite file."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from engine.codec import Message
from engine.errors import ConnectionFailed
from engine.model import QueueSpec
from engine.results import sqlite_waiting
from engine.results.base import ResultMeta
from engine.results.sqlite import SqliteStore
from engine.transport.sqlite import SqliteTransport


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/results.db"


@pytest.fixture
def store(url: str) -> Iterator[SqliteStore]:
    made = SqliteStore(url, expires_s=3600)
    yield made
    made.close()


def test_stored_is_found(store: SqliteStore) -> None:
    meta = ResultMeta(
        "t1",
        "SUCCESS",
        result={"größer": [1, None]},
        children=[["c1", None]],
        date_done="2024-01-01T00:00:00+00:00",
        group_id="g",
        parent_id="p",
        extended={"name": "add", "args": [1], "retries": 0},
    )
    store.store([meta])
    assert store.get("t1") == meta
    assert store.get("t2") is None
    assert store.get_many(["t1", "t2"]) == {"t1": meta}


def test_a_success_is_never_overwritten(store: SqliteStore) -> None:
    store.store([ResultMeta("t", "STARTED")])
    store.store([ResultMeta("t", "SUCCESS", result=1)])
    store.store([ResultMeta("t", "FAILURE", result={"exc_type": "WorkerLost"})])
    found = store.get("t")
    assert found is not None
    assert (found.status, found.result) == ("SUCCESS", 1)


def test_other_states_are_overwritten(store: SqliteStore) -> None:
    for status in ("STARTED", "RETRY", "FAILURE", "SUCCESS"):
        store.store([ResultMeta("t", status)])
        found = store.get("t")
        assert found is not None
        assert found.status == status


def test_forgotten_is_gone(store: SqliteStore) -> None:
    store.store([ResultMeta("t", "SUCCESS")])
    store.forget("t")
    store.forget("t")
    assert store.get("t") is None


def test_many_more_than_one_statement_takes(store: SqliteStore) -> None:
    ids = [f"t{number}" for number in range(3000)]
    store.store([ResultMeta(task_id, "SUCCESS") for task_id in ids])
    assert set(store.get_many(ids)) == set(ids)


@pytest.mark.alone
def test_waiting_is_ended_by_the_result(url: str, store: SqliteStore) -> None:
    assert store.get("t") is None
    other = SqliteStore(url)
    stored_mono_s = 0.0

    def end_it() -> None:
        nonlocal stored_mono_s
        other.store([ResultMeta("t", "STARTED")])
        other.store([ResultMeta("t", "SUCCESS", result=3)])
        stored_mono_s = time.monotonic()

    timer = threading.Timer(0.2, end_it)
    timer.start()
    meta = store.wait("t", 10)
    woken_mono_s = time.monotonic()
    timer.join()
    other.close()
    assert meta is not None
    assert meta.result == 3
    assert woken_mono_s - stored_mono_s < 0.5, "woken by the bell, not by the safety poll"
    assert os.listdir(sqlite_waiting.waiting_folder(store.path)) == []


def test_waiting_ends_at_the_timeout(store: SqliteStore) -> None:
    store.store([ResultMeta("t", "STARTED")])
    started_mono_s = time.monotonic()
    assert store.wait("t", 0.2) is None
    assert 0.15 < time.monotonic() - started_mono_s < 2
    assert store.wait("t", 0) is None


def test_results_come_as_they_are_ready(url: str, store: SqliteStore) -> None:
    ids = [f"t{number}" for number in range(100)]
    store.store([ResultMeta(ids[50], "SUCCESS")])
    other = SqliteStore(url)
    rest = [task_id for task_id in ids if task_id != ids[50]]
    timer = threading.Timer(0.1, lambda: other.store([ResultMeta(task_id, "FAILURE") for task_id in rest]))
    coming = store.iter_ready(ids, 10)
    assert next(coming).task_id == ids[50]
    timer.start()
    assert {meta.task_id for meta in coming} == set(rest)
    timer.join()
    other.close()


def test_expired_results_go(url: str, store: SqliteStore) -> None:
    short = SqliteStore(url, expires_s=0.001)
    short.store([ResultMeta(f"s{number}", "SUCCESS") for number in range(1200)])
    short.save_group("g", ["s1"])
    store.store([ResultMeta("kept", "SUCCESS")])
    for_ever = SqliteStore(url, expires_s=None)
    for_ever.store([ResultMeta("ever", "SUCCESS")])
    until = time.time() + 0.01
    while time.time() < until:
        pass
    assert store.get("s1") is None
    assert store.expire() == 1200
    assert store.expire() == 0
    assert store.get_group("g") is None
    assert store.get("kept") is not None
    assert store.get("ever") is not None
    short.close()
    for_ever.close()


def test_groups(store: SqliteStore) -> None:
    store.save_group("g", ["a", ["b", None]])
    assert store.get_group("g") == ["a", ["b", None]]
    assert store.get_group("h") is None


def test_a_dead_waiter_s_bell_is_swept(store: SqliteStore) -> None:
    store.get("t")
    folder = sqlite_waiting.waiting_folder(store.path)
    waiting = sqlite_waiting.Waiting(folder)
    waiting.add("t")
    assert sqlite_waiting.sweep(folder) == 0
    os.close(waiting._fds.pop("t"))  # as the kernel does when the process dies
    assert sqlite_waiting.sweep(folder) == 1
    assert os.listdir(folder) == []


def test_closing_twice_is_once(store: SqliteStore) -> None:
    store.store([ResultMeta("t", "SUCCESS")])
    store.close()
    store.close()
    assert store.get("t") is not None, "it opens again when it is used"


def test_another_program_s_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    path.write_bytes(b"this is not a database, whatever its name says" * 100)
    with pytest.raises(ConnectionFailed, match="not a database"):
        SqliteStore(f"sqlite:///{path}").get("t")


# -- sharing the broker's file -------------------------------------------------------------------------


def _held(transport: SqliteTransport, unique: str) -> list[object]:
    transport.declare(QueueSpec(unique))
    assert transport.publish([Message(b"x", routing_key=unique)]) == [None]
    transport.consume([unique], 1)
    held: list[object] = list(transport.receive(5))
    assert len(held) == 1
    return held


def test_result_and_ack_are_one_transaction(url: str, unique: str) -> None:
    transport = SqliteTransport(url)
    transport.connect()
    store = SqliteStore(url, expires_s=60, transport=transport)
    watcher = apsw.Connection(str(transport.path))
    look = "SELECT (SELECT count(*) FROM messages), (SELECT count(*) FROM results)"
    held = _held(transport, unique)
    with transport.transaction():
        store.store([ResultMeta("t", "SUCCESS")])
        transport.ack(held)  # type: ignore[arg-type]
        assert watcher.execute(look).fetchall() == [(1, 0)]
    assert watcher.execute(look).fetchall() == [(0, 1)]
    watcher.close()
    store.close()
    transport.close()


def test_a_failing_transaction_takes_back_both(url: str, unique: str) -> None:
    transport = SqliteTransport(url)
    transport.connect()
    store = SqliteStore(url, transport=transport)
    held = _held(transport, unique)
    with pytest.raises(RuntimeError, match="crash"), transport.transaction():  # noqa: PT012 - all of it fails
        store.store([ResultMeta("t", "SUCCESS")])
        transport.ack(held)  # type: ignore[arg-type]
        raise RuntimeError("crash")
    assert store.get("t") is None
    assert transport.queue_state(unique).unacked == 1
    assert transport.publish([Message(b"y", routing_key=unique)]) == [None]
    assert transport.receive(0) == [], "the prefetch is still used up"
    transport.ack(held)  # type: ignore[arg-type]
    assert transport.queue_state(unique).unacked == 0
    transport.close()
    store.close()


def test_another_file_is_opened_apart(tmp_path: Path, url: str) -> None:
    transport = SqliteTransport(f"sqlite:///{tmp_path}/broker.db")
    transport.connect()
    store = SqliteStore(url, transport=transport)
    store.store([ResultMeta("t", "SUCCESS")])
    assert (tmp_path / "results.db").exists()
    transport.close()
    assert store.get("t") is not None
    store.close()
