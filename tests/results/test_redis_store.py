"""Results in Redis, beside the real Celery's: each reads the other's."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import celery
import pytest
import redis

from engine.errors import AccessRefused, ConnectionFailed, ResultError
from engine.results.base import ResultMeta
from engine.results.redis import RedisStore
from tools.brokers import Redis

pytestmark = [
    pytest.mark.redis,
    pytest.mark.interop,
    pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning"),  # in Celery
]


@pytest.fixture
def url(redis_server: Redis) -> str:
    return redis_server.url


@pytest.fixture
def raw(url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(url) as client:
        yield client


@pytest.fixture
def store(url: str) -> Iterator[RedisStore]:
    made = RedisStore(url, expires_s=3600)
    yield made
    made.close()


@pytest.fixture
def app(url: str) -> Iterator[celery.Celery]:
    with celery.Celery("app", broker=url, backend=url, set_as_current=False) as made:
        yield made
        made.backend.result_consumer.stop()
        made.backend.result_consumer._pubsub = None  # or a result that is collected later connects again
        made.backend.client.connection_pool.disconnect()


def success(task_id: str, result: Any = 1, **fields: Any) -> ResultMeta:
    return ResultMeta(task_id, "SUCCESS", result, date_done="2024-01-01T00:00:00+00:00", **fields)


def test_stored_as_celery_stores(store: RedisStore, raw: redis.Redis, unique: str) -> None:
    store.store(
        [success(unique, {"größer": [1, None]}, group_id="g", extended={"name": "add", "retries": 0})]
    )
    key = f"celery-task-meta-{unique}"
    assert json.loads(raw.get(key)) == {
        "status": "SUCCESS",
        "result": {"größer": [1, None]},
        "traceback": None,
        "children": [],
        "date_done": "2024-01-01T00:00:00+00:00",
        "group_id": "g",
        "name": "add",
        "retries": 0,
        "task_id": unique,
    }
    assert 3500 < raw.ttl(key) <= 3600
    found = store.get(unique)
    assert found is not None
    assert found.group_id == "g"
    assert found.extended == {"name": "add", "retries": 0}


def test_celery_reads_ours(store: RedisStore, app: celery.Celery, unique: str) -> None:
    failure = {"exc_type": "ValueError", "exc_message": ["why"], "exc_module": "builtins"}
    good, bad = f"{unique}-good", f"{unique}-bad"
    waiting = app.AsyncResult(good)
    timer = threading.Timer(
        0.2, store.store, ([success(good, [1, 2]), ResultMeta(bad, "FAILURE", failure, traceback="Trace")],)
    )
    timer.start()
    assert waiting.get(timeout=10) == [1, 2]
    timer.join()
    failed = app.AsyncResult(bad)
    with pytest.raises(ValueError, match="why"):
        failed.get(timeout=10)
    assert failed.traceback == "Trace"


def test_we_read_celerys(store: RedisStore, app: celery.Celery, unique: str) -> None:
    app.backend.store_result(f"{unique}-1", {"a": 1}, "SUCCESS")
    app.backend.store_result(f"{unique}-2", ValueError("why"), "FAILURE", traceback="Trace")
    found = store.get_many([f"{unique}-1", f"{unique}-2", f"{unique}-3"])
    assert set(found) == {f"{unique}-1", f"{unique}-2"}
    assert found[f"{unique}-1"].result == {"a": 1}
    failed = found[f"{unique}-2"]
    assert (failed.status, failed.traceback) == ("FAILURE", "Trace")
    assert failed.result["exc_type"] == "ValueError"
    assert list(failed.result["exc_message"]) == ["why"]


def test_waiting_for_what_celery_stores(store: RedisStore, app: celery.Celery, unique: str) -> None:
    app.backend.store_result(unique, None, "STARTED")
    timer = threading.Timer(0.2, app.backend.store_result, (unique, 5, "SUCCESS"))
    timer.start()
    started_mono_s = time.monotonic()
    meta = store.wait(unique, 10)
    assert meta is not None
    assert meta.result == 5
    assert time.monotonic() - started_mono_s < 3
    timer.join()


def test_a_success_is_never_overwritten(store: RedisStore, app: celery.Celery, unique: str) -> None:
    first, second = f"{unique}-1", f"{unique}-2"
    store.store([ResultMeta(first, "STARTED"), success(first, {"status": "x"})])
    app.backend.store_result(second, 2, "SUCCESS")
    lost = {"exc_type": "WorkerLost", "exc_message": [], "exc_module": "engine"}
    store.store([ResultMeta(first, "FAILURE", lost), ResultMeta(second, "FAILURE", lost)])
    assert {meta.status for meta in store.get_many([first, second]).values()} == {"SUCCESS"}
    nested = f"{unique}-3"
    store.store([ResultMeta(nested, "RETRY", {"status": "SUCCESS"})])
    store.store([success(nested, 7)])
    found = store.get(nested)
    assert found is not None
    assert found.result == 7


def test_a_large_batch(store: RedisStore, unique: str) -> None:
    ids = [f"{unique}-{number}" for number in range(450)]
    store.store([success(task_id, number) for number, task_id in enumerate(ids)])
    assert [meta.result for meta in store.get_many(ids).values()] == list(range(450))
    store.store([])
    assert store.get_many([]) == {}


def test_many_as_they_come(store: RedisStore, url: str, unique: str) -> None:
    ids = [f"{unique}-{number}" for number in range(20)]
    store.store([success(ids[7], 7)])
    other = RedisStore(url)

    def finish() -> None:
        for number in reversed(range(20)):
            other.store([success(ids[number], number)])

    thread = threading.Thread(target=finish)
    came = []
    for meta in store.iter_ready(ids, 10):
        if not came:
            assert meta.result == 7
            thread.start()
        came.append(meta.result)
        assert store.get(meta.task_id) is not None  # used for something else meanwhile
    assert sorted(came) == list(range(20))
    thread.join()
    other.close()


def test_no_result_in_time(store: RedisStore, unique: str) -> None:
    assert store.get(unique) is None
    assert store.wait(unique, 0) is None
    started_mono_s = time.monotonic()
    assert store.wait(unique, 0.3) is None
    assert 0.25 < time.monotonic() - started_mono_s < 2
    store.store([ResultMeta(unique, "STARTED")])
    assert store.wait(unique, 0.1) is None


def test_forgotten(store: RedisStore, unique: str) -> None:
    store.store([success(unique)])
    store.forget(unique)
    assert store.get(unique) is None


def test_groups_are_celerys(store: RedisStore, app: celery.Celery, unique: str) -> None:
    members = [f"{unique}-1", f"{unique}-2"]
    store.save_group(unique, members)
    restored = app.GroupResult.restore(unique)
    assert [result.id for result in restored.results] == members
    assert store.get_group(unique) == members
    theirs = app.GroupResult(f"{unique}-theirs", [app.AsyncResult(member) for member in members])
    theirs.save()
    assert store.get_group(f"{unique}-theirs") == members
    assert store.get_group(f"{unique}-none") is None


@pytest.mark.parametrize("prefix", ["app", "app:"])
def test_a_key_prefix_is_celerys(url: str, raw: redis.Redis, unique: str, prefix: str) -> None:
    store = RedisStore(url, key_prefix=prefix, expires_s=None, failure_expires_s=5)
    options = {"global_keyprefix": prefix}
    with celery.Celery(
        "app", backend=url, set_as_current=False, result_backend_transport_options=options
    ) as app:
        store.store([success(unique, 3)])
        assert app.AsyncResult(unique).result == 3
        app.backend.client.connection_pool.disconnect()
    key = next(iter(raw.scan_iter(f"*{unique}"))).decode()
    assert key.startswith(prefix)
    assert raw.ttl(key) == -1
    raw.delete(key)
    store.store([ResultMeta(unique, "FAILURE", {})])
    assert raw.ttl(key) <= 5
    raw.delete(key)
    store.close()


def test_a_lost_connection_is_opened_again(store: RedisStore, raw: redis.Redis, unique: str) -> None:
    store.store([success(f"{unique}-1")])
    _kill(raw)
    store.store([success(f"{unique}-2")])
    assert len(store.get_many([f"{unique}-1", f"{unique}-2"])) == 2

    def store_unheard() -> None:
        """Stored while nobody hears the announcement: found when the connection is opened again."""
        raw.set(f"celery-task-meta-{unique}-3", json.dumps({"status": "SUCCESS", "result": 3}))
        _kill(raw)

    timer = threading.Timer(0.2, store_unheard)
    timer.start()
    meta = store.wait(f"{unique}-3", 10)
    assert meta is not None
    assert (meta.task_id, meta.result) == (f"{unique}-3", 3)
    timer.join()


def _kill(raw: redis.Redis) -> None:
    for client in raw.client_list():
        if client["name"] == "engine-results":
            raw.client_kill_filter(_id=client["id"])


def test_a_store_that_is_gone(tmp_path: Path) -> None:
    server = Redis(tmp_path / "own")
    server.start()
    store = RedisStore(server.url, tries=2)
    store.store([success("t")])
    server.kill()
    with pytest.raises(ConnectionFailed):
        store.store([success("t")])
    server.start()
    store.store([success("u")])
    assert store.get("u") is not None
    store.close()
    server.stop()


def test_a_store_that_says_no(tmp_path: Path) -> None:
    server = Redis(tmp_path / "own")
    server.start()
    store = RedisStore(server.url)
    with redis.Redis.from_url(server.url) as raw:
        raw.config_set("maxmemory", "1kb")
        with pytest.raises(ResultError, match="OOM"):
            store.store([success("t")])
        raw.config_set("maxmemory", "0")
        raw.script_flush()
        store.store([success("t")])
        raw.set("celery-task-meta-bad", b"\x80\x04pickle")
        with pytest.raises(ResultError, match="bad"):
            store.get("bad")
        raw.config_set("requirepass", "secret")
    other = RedisStore(server.url)
    with pytest.raises(AccessRefused):
        other.get("t")
    store.close()
    server.stop()


def test_a_forked_child_opens_its_own(store: RedisStore, unique: str) -> None:
    store.store([success(f"{unique}-parent")])
    pid = os.fork()
    if pid == 0:
        try:
            found = store.get(f"{unique}-parent")
            store.store([success(f"{unique}-child")])
            os._exit(0 if found is not None else 1)
        finally:
            os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0
    assert len(store.get_many([f"{unique}-parent", f"{unique}-child"])) == 2
