"""``Task.apply``: what a worker would do, here and now."""

from __future__ import annotations

import time
from collections import ChainMap, OrderedDict, UserDict
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import pytest

from engine.app import Engine


@pytest.fixture
def app(unique: str) -> Engine:
    return Engine("run", broker=f"memory://{unique}")


def test_eager_runs_callbacks_chains_and_retries_here(app: Engine) -> None:
    heard: list[int] = []

    @app.task
    def hear(n: int) -> int:
        heard.append(n)
        return n

    @app.task(bind=True, max_retries=3)
    def third(self: Any, n: int) -> int:
        if self.request.retries < 2:
            self.retry(countdown=60)
        return n

    started = time.monotonic()
    result = third.apply((7,), link=hear.s())
    assert (result.get(), result.state, heard) == (7, "SUCCESS", [7])
    assert time.monotonic() - started < 20
    assert (third.s(1) | hear.s()).apply().get() == 1
    app.conf.task_always_eager = True
    assert third.delay(2).get() == 2


@pytest.mark.parametrize("mapping", [MappingProxyType, UserDict, ChainMap, OrderedDict])
def test_keyword_arguments_are_any_mapping(app: Engine, mapping: Callable[[dict[str, int]], Any]) -> None:
    @app.task
    def add(a: int, **more: int) -> int:
        return a + sum(more.values())

    assert add.apply((), mapping({"a": 1, "b": 2})).get() == 3
    app.conf.task_always_eager = True
    assert add.apply_async((), mapping({"a": 1, "b": 2})).get() == 3


def test_eager_errors(app: Engine) -> None:
    @app.task
    def fails() -> float:
        return 1 / 0

    result = fails.apply()
    assert result.failed()
    assert "ZeroDivisionError" in (result.traceback or "")
    with pytest.raises(ZeroDivisionError):
        result.get()
    with pytest.raises(ZeroDivisionError):
        fails.apply(throw=True)
    app.conf.task_eager_propagates = True
    with pytest.raises(ZeroDivisionError):
        fails.apply()


def test_a_call_overrules_the_tasks_ignore_result(app: Engine) -> None:
    @app.task(ignore_result=True, store_eager_result=True)
    def silent() -> int:
        return 1

    kept, left = silent.apply(ignore_result=False), silent.apply()
    assert app.results.get(left.id) is None
    meta = app.results.get(kept.id)
    assert meta is not None
    assert meta.result == 1
