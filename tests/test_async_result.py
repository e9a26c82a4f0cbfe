"""Results as promises: waiting, looking, awaiting, and exceptions out of their stored form."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from typing import Any

import pytest

from engine.app import Engine
from engine.async_result import AsyncResult, EagerResult
from engine.context import Context, pop, push
from engine.errors import ResultsDisabled, ResultTimeout, TaskFailed
from engine.group_result import GroupResult
from engine.results.base import ResultMeta, ResultStore


@pytest.fixture(params=["memory", "sqlite"])
def app(request: pytest.FixtureRequest, unique: str, tmp_path: Any) -> Any:
    url = f"memory://{unique}" if request.param == "memory" else f"sqlite:///{tmp_path}/r.db"
    app = Engine("r", broker="memory://results", backend=url)
    yield app
    app.close()


def store(app: Engine, task_id: str, status: str = "SUCCESS", result: Any = None, **fields: Any) -> None:
    app.results.store([ResultMeta(task_id, status, result, **fields)])


def test_pending_until_it_is_there(app: Engine) -> None:
    result = app.AsyncResult("a")
    assert (result.state, result.ready(), result.result, result.children) == ("PENDING", False, None, [])
    store(app, "a", "STARTED", {"pid": 1})
    assert (result.status, result.info) == ("STARTED", {"pid": 1})
    store(app, "a", "SUCCESS", [1, 2], date_done="2026-01-01T00:00:00+00:00")
    assert (result.get(), result.successful(), result.failed()) == ([1, 2], True, False)
    assert result.date_done == "2026-01-01T00:00:00+00:00"


def test_a_wait_ends_when_the_result_comes(app: Engine) -> None:
    result = app.AsyncResult("a")
    writer = app.open_store()
    assert writer is not None
    timer = threading.Timer(0.1, lambda: writer.store([ResultMeta("a", "SUCCESS", 5)]))
    timer.start()
    assert result.get(timeout=30) == 5
    timer.join()
    writer.close()


def test_no_result_in_time(app: Engine) -> None:
    started = time.monotonic()
    with pytest.raises(ResultTimeout, match=r"no result of task a within 0\.05 s"):
        app.AsyncResult("a").get(timeout=0.05)
    with pytest.raises(TimeoutError):
        app.AsyncResult("a").get(timeout=0)
    assert time.monotonic() - started < 5


def test_a_failure_is_raised_again(app: Engine) -> None:
    stored = {"exc_type": "ZeroDivisionError", "exc_message": ["by zero"], "exc_module": "builtins"}
    store(app, "a", "FAILURE", stored, traceback="Traceback ...")
    result = app.AsyncResult("a")
    with pytest.raises(ZeroDivisionError, match="by zero"):
        result.get(timeout=1)
    assert isinstance(result.get(propagate=False), ZeroDivisionError)
    assert (result.failed(), result.traceback) == (True, "Traceback ...")
    with pytest.raises(ZeroDivisionError):
        result.maybe_throw()


def test_a_failed_step_of_a_chain_is_told_at_once(app: Engine) -> None:
    store(app, "first", "FAILURE", {"exc_type": "KeyError", "exc_message": ["k"], "exc_module": "builtins"})
    last = app.AsyncResult("last", parent=app.AsyncResult("middle", parent=app.AsyncResult("first")))
    with pytest.raises(KeyError):
        last.get(timeout=30)
    with pytest.raises(KeyError):
        asyncio.run(_awaited(last))


async def _awaited(result: Any) -> Any:
    return await result


def test_a_step_that_fails_while_the_last_is_waited_for_ends_the_wait(app: Engine) -> None:
    first = app.AsyncResult("first")
    last = app.AsyncResult("last", parent=app.AsyncResult("middle", parent=first))
    writer = app.open_store()
    assert writer is not None
    stored = {"exc_type": "KeyError", "exc_message": ["k"], "exc_module": "builtins"}
    fail = threading.Timer(0.1, lambda: writer.store([ResultMeta("first", "REVOKED", stored)]))
    fail.start()
    with pytest.raises(KeyError):
        last.get(timeout=30)
    fail.join()
    writer.close()
    with pytest.raises(ResultTimeout):
        last.get(timeout=0, propagate=False)
    store(app, "last", "SUCCESS", 1)
    assert last.get(timeout=30) == 1


def test_forget(app: Engine) -> None:
    store(app, "a", "SUCCESS", 1)
    result = app.AsyncResult("a")
    assert result.get() == 1
    result.forget()
    assert result.state == "PENDING"


def test_extended_fields(app: Engine) -> None:
    store(
        app, "a", "SUCCESS", 1, extended={"name": "t", "args": [1], "kwargs": {}, "worker": "w", "retries": 2}
    )
    result = app.AsyncResult("a")
    assert (result.name, result.args, result.kwargs, result.worker, result.retries) == ("t", [1], {}, "w", 2)


def test_never_inside_a_task(app: Engine) -> None:
    store(app, "a", "SUCCESS", 1)
    token = push(None, Context(called_directly=False))
    try:
        with pytest.raises(RuntimeError, match="never wait for a result inside a task"):
            app.AsyncResult("a").get()
        assert app.AsyncResult("a").get(disable_sync_subtasks=False) == 1
    finally:
        pop(token)


def test_await(app: Engine) -> None:
    ticks: list[int] = []

    async def tick() -> None:
        for n in range(3):
            ticks.append(n)
            await asyncio.sleep(0.01)
        writer = await asyncio.to_thread(app.open_store)
        assert writer is not None
        writer.store([ResultMeta("a", "SUCCESS", "late")])
        writer.close()

    async def main() -> Any:
        other = asyncio.create_task(tick())
        value = await app.AsyncResult("a")
        await other
        return value

    assert asyncio.run(main()) == "late"
    assert ticks == [0, 1, 2]


def test_await_group_and_failure(app: Engine) -> None:
    store(app, "a", "SUCCESS", 1)
    store(app, "b", "SUCCESS", 2)
    store(app, "c", "FAILURE", {"exc_type": "KeyError", "exc_message": [], "exc_module": "builtins"})

    async def main() -> Any:
        with pytest.raises(KeyError):
            await app.AsyncResult("c")
        return await app.GroupResult("g", [app.AsyncResult("a"), app.AsyncResult("b")])

    assert asyncio.run(main()) == [1, 2]


class Consuming(ResultStore):
    """As rpc: a result can be read once, by the thread that asked."""

    consuming = True

    def __init__(self) -> None:
        self.metas = [None, None, ResultMeta("a", "SUCCESS", 3)]
        self.threads: set[int] = set()

    def store(self, metas: Any) -> None: ...

    def get(self, task_id: str) -> ResultMeta | None:
        self.threads.add(threading.get_ident())
        return self.metas.pop(0)

    def wait(self, task_id: str, timeout: float | None) -> ResultMeta | None:
        raise AssertionError("would block the loop")

    def forget(self, task_id: str) -> None: ...

    def close(self) -> None: ...


def test_await_asks_a_consuming_store_in_its_own_thread() -> None:
    backend = Consuming()

    async def main() -> Any:
        return await AsyncResult("a", backend)

    assert asyncio.run(main()) == 3
    assert backend.threads == {threading.get_ident()}


def test_groups_are_kept_and_restored(app: Engine) -> None:
    store(app, "a", "SUCCESS", 1)
    store(app, "b", "SUCCESS", 2)
    app.GroupResult("g", [app.AsyncResult("a"), app.AsyncResult("b")]).save()
    restored = GroupResult.restore("g", app)
    assert restored is not None
    assert restored.get(timeout=1) == [1, 2]
    assert GroupResult.restore("unknown", app) is None


def test_as_values(app: Engine) -> None:
    result = app.AsyncResult("a", parent=app.AsyncResult("p"))
    assert result == app.AsyncResult("a") == "a"
    assert len({result, app.AsyncResult("a")}) == 1
    assert result.as_tuple() == (("a", (("p", None), None)), None)
    assert app.result_from_tuple(result.as_tuple()).parent == "p"
    again = pickle.loads(pickle.dumps(result))
    assert (again, again.parent) == (result, result.parent)
    group = app.GroupResult("g", [result], parent=app.AsyncResult("p"))
    assert app.result_from_tuple(group.as_tuple()) == group
    assert pickle.loads(pickle.dumps(group)).results == [result]
    with pytest.raises(ValueError, match="needs the id"):
        app.AsyncResult("")


def test_an_app_without_results_says_so() -> None:
    app = Engine("none", broker="amqp://nowhere")
    with pytest.raises(ResultsDisabled, match="set result_backend"):
        app.AsyncResult("a").get(timeout=1)


def test_an_eager_result_is_there() -> None:
    failed = EagerResult[int]("e", TaskFailed("X", ["why"]), "FAILURE", "tb")
    assert (failed.ready(), failed.failed(), failed.traceback) == (True, True, "tb")
    with pytest.raises(TaskFailed, match="X: why"):
        failed.get()
