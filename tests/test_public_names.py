"""The public names, and how little importing them costs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import engine

CLASSES = "AsyncResult Consumer Context Engine Exchange GroupResult Producer Queue Signature Task"
ERRORS = "EngineError Ignore MaxRetriesExceeded Reject Retry SoftTimeLimitExceeded"
FUNCTIONS = "chain chord current_app current_task group shared_task signature"
NAMES = f"__version__ errors signals {CLASSES} {ERRORS} {FUNCTIONS}".split()


def test_exactly_these() -> None:
    assert sorted(engine.__all__) == sorted(NAMES)
    assert set(NAMES) <= set(dir(engine))


@pytest.mark.parametrize("name", NAMES)
def test_each_is_there(name: str) -> None:
    assert getattr(engine, name) is not None


def test_others_are_not() -> None:
    with pytest.raises(AttributeError, match="module 'engine' has no attribute 'nothing'"):
        engine.nothing  # noqa: B018


def modules_after(code: str) -> set[str]:
    script = f"{code}\nimport sys, json\nprint(json.dumps(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(out.stdout))


def test_importing_the_package_imports_nothing_else() -> None:
    extra = modules_after("import engine") - modules_after("")
    assert {name for name in extra if not name.startswith(("engine", "__future__"))} == set()
    assert extra & {"engine.app", "engine.codec"} == set()


def test_an_app_needs_no_broker_library_and_no_command_line() -> None:
    loaded = modules_after("from engine import Engine; Engine(broker='memory://').task(lambda: 1, )")
    heavy = {"kombu", "amqp", "redis", "rich", "click", "apsw", "celery", "psutil", "asyncio", "ssl"}
    assert loaded & heavy == set()
