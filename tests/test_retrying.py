"""Tasks that are tried again: by themselves, by ``retry()``, by ``autoretry_for``; and replaced ones."""

from __future__ import annotations

import time
from typing import Any

import pytest

from engine.app import Engine
from engine.errors import MaxRetriesExceeded, Retry
from engine.task import Task
from tests.inline_worker import run_all


@pytest.fixture
def app(unique: str) -> Engine:
    return Engine("proj", broker=f"memory://{unique}")


@pytest.fixture
def add(app: Engine) -> Task[[int, int], int]:
    @app.task
    def add(a: int, b: int = 1) -> int:
        return a + b

    return add


def call(app: Engine, task: Task[Any, Any], *args: Any, **options: Any) -> Any:
    task.apply_async(args, **options)
    return run_all(app)[0]


def test_a_retry_is_the_same_task_once_more(app: Engine) -> None:
    @app.task(bind=True, max_retries=2)
    def flaky(self: Any, n: int) -> int:
        if self.request.retries < 2:
            raise self.retry(countdown=0)
        return n

    flaky.apply_async(
        (5,), task_id="same", queue="odd", headers={"tenant": 1}, link=flaky.si(0).set(queue="no")
    )
    ran = run_all(app, "odd")
    assert [(m.id, m.retries, o.state) for m, o in ran] == [
        ("same", 0, "RETRY"),
        ("same", 1, "RETRY"),
        ("same", 2, "SUCCESS"),
    ]
    assert all((message.headers or {}).get("tenant") == 1 for message, _ in ran)
    assert all(message.parent_id is None for message, _ in ran)


def test_retries_end(app: Engine) -> None:
    @app.task(bind=True, max_retries=1)
    def never(self: Any, exc: str | None = None) -> None:
        raise self.retry(countdown=0, exc=KeyError(exc) if exc else None)

    never.delay()
    assert isinstance(run_all(app)[-1][1].result, MaxRetriesExceeded)
    never.delay("mine")
    ran = run_all(app)
    assert [outcome.state for _, outcome in ran] == ["RETRY", "FAILURE"]
    assert isinstance(ran[-1][1].result, KeyError)


def test_a_retry_waits(app: Engine) -> None:
    @app.task(bind=True)
    def later(self: Any) -> None:
        self.retry(exc=ValueError("why"))

    _, outcome = call(app, later)
    (message,) = outcome.publish
    assert message.due_at == pytest.approx(time.time() + 180, abs=5)
    assert (outcome.state, str(outcome.result)) == ("RETRY", "why")


def test_other_arguments_for_the_next_try(app: Engine) -> None:
    @app.task(bind=True)
    def task(self: Any, a: int, b: int = 0, **rest: Any) -> Any:
        if self.request.retries == 0:
            self.retry(args=(9,), countdown=0)
        if self.request.retries == 1:
            self.retry(kwargs={"b": 7}, countdown=0)
        return a, b

    task.apply_async((1,), {"b": 5})
    assert run_all(app)[-1][1].result == (9, 7)


def test_retry_without_raising(app: Engine) -> None:
    @app.task(bind=True)
    def both(self: Any) -> str:
        if self.request.retries == 0:
            assert isinstance(self.retry(throw=False, countdown=0), Retry)
        return "done"

    both.delay()
    assert [outcome.state for _, outcome in run_all(app)] == ["SUCCESS", "SUCCESS"]


def test_retry_outside_a_worker_raises_the_error(app: Engine) -> None:
    @app.task(bind=True)
    def task(self: Any, exc: Exception | None = None) -> None:
        self.retry(exc=exc)

    with pytest.raises(KeyError):
        task(KeyError("k"))
    with pytest.raises(Retry):
        task()


def test_automatic_retries_with_backoff(app: Engine) -> None:
    @app.task(
        autoretry_for=(OSError,), dont_autoretry_for=(FileNotFoundError,), retry_backoff=4, retry_jitter=False
    )
    def fetch(kind: str) -> None:
        raise {"os": OSError, "file": FileNotFoundError, "key": KeyError}[kind]("x")

    _, outcome = call(app, fetch, "os")
    assert outcome.publish[0].due_at == pytest.approx(time.time() + 4, abs=2)
    assert outcome.state == "RETRY"
    assert [call(app, fetch, kind)[1].state for kind in ("file", "key")] == ["FAILURE", "FAILURE"]
    _, outcome = call(app, fetch, "os", retries=3)
    assert isinstance(outcome.result, OSError)
    assert (outcome.state, tuple(outcome.publish)) == ("FAILURE", ())


@pytest.mark.parametrize(("retries", "most"), [(0, 2), (3, 16), (20, 600)])
def test_backoff_with_jitter_stays_below_its_curve(app: Engine, retries: int, most: int) -> None:
    from engine.retrying import backoff_s

    @app.task(retry_backoff=2)
    def task() -> None: ...

    drawn = [backoff_s(task, retries) for _ in range(300)]
    assert 0 <= min(drawn) <= max(drawn) <= most
    assert max(drawn) > most / 2


def test_replace(app: Engine, add: Task[[int, int], int]) -> None:
    @app.task(bind=True)
    def outer(self: Any) -> None:
        self.replace(add.s(2, 3))

    result = outer.apply_async(link=add.s(10))
    states = [(message.task, outcome.state) for message, outcome in run_all(app)]
    assert states == [(outer.name, "IGNORED"), (add.name, "SUCCESS"), (add.name, "SUCCESS")]
    assert result.get(timeout=1) == 5
