"""One run of a task: every way it can end, its hooks, and what follows it."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from engine import coroutines
from engine.app import Engine
from engine.context import Context, current_request, current_task
from engine.dispatch import make_task
from engine.errors import EncodeError, Ignore, Reject, SoftTimeLimitExceeded
from engine.task import Task
from engine.work import Outcome


@pytest.fixture
def app(unique: str) -> Engine:
    return Engine("run", broker=f"memory://{unique}")


@pytest.fixture(autouse=True)
def _no_loop_left() -> Iterator[None]:
    yield
    coroutines.close()


def run(task: Task[Any, Any], *args: Any, **options: Any) -> Outcome:
    """Run it once as a worker would."""
    app = task.app
    app.finalize()
    message = make_task(task.name, "the-id", args, {}, options)
    message.ignore_result = options.get("ignore_result")
    context = Context(message, outbox=[], called_directly=False, hostname="h")
    outcome = app.run_task(task, context, message)
    assert current_request() is None
    return outcome


def test_success(app: Engine) -> None:
    @app.task(bind=True)
    def task(self: Any, a: int) -> Any:
        assert current_task() is self
        return a, self.request.id, self.request.hostname, self.request.called_directly

    outcome = run(task, 5)
    assert (outcome.state, outcome.result) == ("SUCCESS", (5, "the-id", "h", False))
    assert outcome.store
    assert outcome.runtime_s > 0


def test_failure_shows_the_users_frames_only(app: Engine) -> None:
    @app.task
    def task() -> None:
        raise ValueError("why")

    outcome = run(task)
    assert (outcome.state, repr(outcome.result)) == ("FAILURE", "ValueError('why')")
    assert outcome.traceback is not None
    assert 'raise ValueError("why")' in outcome.traceback
    assert "engine/runner.py" not in outcome.traceback


@pytest.mark.parametrize(
    ("error", "state", "store"),
    [
        (SystemExit(3), "FAILURE", True),
        (MemoryError(), "FAILURE", True),
        (asyncio.CancelledError(), "FAILURE", True),
        (SoftTimeLimitExceeded(), "FAILURE", True),
        (Ignore(), "IGNORED", False),
        (Reject("r", requeue=True), "REJECTED", False),
        (Reject("r"), "REJECTED", False),
    ],
)
def test_what_a_task_may_raise(app: Engine, error: BaseException, state: str, store: bool) -> None:
    @app.task
    def task() -> None:
        raise error

    outcome = run(task)
    assert (outcome.state, outcome.result, outcome.store) == (state, error, store)
    assert outcome.requeue is getattr(error, "requeue", False)


def test_an_interrupt_goes_through(app: Engine) -> None:
    @app.task
    def task() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(task)
    assert current_request() is None


@pytest.mark.parametrize(
    ("own", "ignore", "even_errors", "stored"),
    [
        (False, False, False, [True, True]),
        (False, True, False, [False, False]),
        (False, True, True, [False, True]),
        (True, None, False, [False, False]),
        (True, None, True, [False, True]),
        (True, False, False, [True, True]),
    ],
)
def test_what_is_stored(
    app: Engine, own: bool, ignore: bool | None, even_errors: bool, stored: list[bool]
) -> None:
    """The word of a call counts before the task's own."""

    @app.task(ignore_result=own, store_errors_even_if_ignored=even_errors)
    def task(good: bool) -> float:
        return 1 / good

    assert [run(task, good, ignore_result=ignore).store for good in (True, False)] == stored


def test_hooks_in_order(app: Engine) -> None:
    calls: list[Any] = []

    class Hooked(Task[Any, Any]):
        def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
            calls.append(("before", task_id, list(args)))

        def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
            calls.append(("success", retval))

        def on_failure(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
            calls.append(("failure", repr(exc), "ZeroDivisionError" in str(einfo)))

        def after_return(
            self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any
        ) -> None:
            calls.append(("after", status))

    @app.task(base=Hooked)
    def task(n: int) -> float:
        return 4 / n

    run(task, 2)
    run(task, 0)
    assert calls == [
        ("before", "the-id", [2]),
        ("success", 2.0),
        ("after", "SUCCESS"),
        ("before", "the-id", [0]),
        ("failure", "ZeroDivisionError('division by zero')", True),
        ("after", "FAILURE"),
    ]


def test_a_hook_that_raises_changes_nothing(app: Engine, caplog: pytest.LogCaptureFixture) -> None:
    class Bad(Task[Any, Any]):
        def on_success(self, *_: Any) -> None:
            raise ValueError("hook")

    @app.task(base=Bad)
    def task() -> int:
        return 1

    assert run(task).state == "SUCCESS"
    assert "its on_success hook raised" in caplog.text


def test_async_tasks(app: Engine) -> None:
    loops: list[Any] = []

    @app.task
    async def double(n: int) -> int:
        loops.append(asyncio.get_running_loop())
        await asyncio.sleep(0)
        request = current_request()
        assert request is not None
        assert request.id == "the-id"
        if n < 0:
            raise ValueError(n)
        return 2 * n

    assert [run(double, n).result for n in (1, 2)] == [2, 4]
    assert run(double, -1).state == "FAILURE"
    assert len(set(loops)) == 1


def test_an_interrupted_coroutine_is_cancelled_and_cleans_up(app: Engine) -> None:
    cleaned: list[str] = []

    @app.task
    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cleaned.append("yes")

    def strike(*_: Any) -> None:
        raise SoftTimeLimitExceeded(0.1)

    before = signal.signal(signal.SIGALRM, strike)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        outcome = run(slow)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert isinstance(outcome.result, SoftTimeLimitExceeded)
    assert cleaned == ["yes"]
    assert run(slow.app.task(_quick)).result == "quick"


async def _quick() -> str:
    return "quick"


def test_inside_a_running_loop_a_coroutine_gets_a_thread(app: Engine) -> None:
    @app.task
    async def where() -> int:
        return threading.get_ident()

    async def main() -> Any:
        return where.apply().get()

    assert asyncio.run(main()) != threading.get_ident()


def test_error_callbacks_of_both_kinds(app: Engine) -> None:
    heard: list[Any] = []

    @app.task
    def new_style(request: Any, exc: Exception, traceback: str) -> None:
        heard.append((request.id, repr(exc), "ZeroDivisionError" in traceback))

    @app.task
    def old_style(task_id: str) -> None: ...

    @app.task
    def fails() -> float:
        return 1 / 0

    errbacks = [new_style.s(), old_style.s(), app.signature("far.away")]
    outcome = run(fails, link_error=errbacks)
    assert heard == [("the-id", "ZeroDivisionError('division by zero')", True)]
    assert [(message.headers or {})["task"] for message in outcome.publish] == [old_style.name, "far.away"]
    assert (outcome.publish[0].headers or {})["parent_id"] == "the-id"
    assert b'[["the-id"]' in outcome.publish[0].body


def test_an_error_callback_that_raises_is_logged(app: Engine, caplog: pytest.LogCaptureFixture) -> None:
    @app.task
    def bad(request: Any, exc: Any, traceback: Any) -> None:
        raise KeyError("errback")

    @app.task
    def fails() -> float:
        return 1 / 0

    assert run(fails, link_error=[bad.s()]).state == "FAILURE"
    assert "error callback" in caplog.text


def test_a_result_that_cannot_be_passed_on_is_a_failure(app: Engine) -> None:
    @app.task
    def opaque() -> object:
        return object()

    @app.task
    def take(value: Any) -> None: ...

    assert run(opaque, link=[opaque.si()]).state == "SUCCESS"
    for callback, error in ((take.s(), EncodeError), (opaque.s(), TypeError)):
        outcome = run(opaque, link=[callback])
        assert (outcome.state, type(outcome.result)) == ("FAILURE", error)
        assert not outcome.publish


def test_children_are_remembered(app: Engine) -> None:
    @app.task
    def leaf(n: int = 0) -> None: ...

    @app.task
    def parent() -> None:
        leaf.delay()

    app.finalize()
    message = make_task(parent.name, "p", (), {}, {"link": [leaf.si()]})
    context = Context(message, outbox=[], called_directly=False)
    outcome = app.run_task(parent, context, message)
    (published,) = outcome.publish
    ids = [child[0][0] for child in context.children_as_tuples()]
    assert len(ids) == 2
    assert (published.headers or {})["id"] == ids[1]
