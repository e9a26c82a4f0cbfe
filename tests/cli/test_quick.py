"""`engine run` without click means what it means with it."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from engine.cli.quick import _OPTIONS, read
from engine.cli.run import run, worker_options
from engine.cli.target import split_app
from tests.cli.command import environment


def _by_click(words: list[str]) -> object:
    given = dict(run.make_context("run", list(words)).params)
    app, rest = split_app(given.pop("words"), given.pop("app_path"), "")
    return (app, worker_options(given)) if not rest else None


@pytest.mark.parametrize(
    "line",
    [
        "app",
        "app:app -c 16",
        "--concurrency 2 app",
        "-A app",
        "--app=app -Q a,b,",
        "app --queues=a -n mail@%h --hostname x",
        "app -l DEBUG --json-logs",
        "app --loglevel Warning --prefetch 3",
        "app --max-tasks-per-child 5 --max-memory-per-child=9000",
        "app --time-limit 2.5 --soft-time-limit 2 --drain-deadline .5",
        "app --time-limit 10.",
        "folder/app.py:app -c 500",
    ],
)
def test_the_same_as_with_click(line: str) -> None:
    assert read(line.split()) == _by_click(line.split())


@pytest.mark.parametrize(
    "line",
    [
        "",
        "--help",
        "app -h",
        "app other",
        "app -A app",
        "app -c 0",
        "app -c -1",
        "app -c two",
        "app -c 501",
        "app -c",
        "app -c4",
        "app -c=4",
        "app -Q ,",
        "app -l loud",
        "app --time-limit nan",
        "app --time-limit 1e3",
        "app --time-limit 0",
        "app --time-limit 2 --soft-time-limit 2",
        "app --no-such-option",
        "app --json-logs=yes",
        "app --pidfile worker.pid",
        "app -b redis://",
        "-- app",
    ],
)
def test_what_is_not_ordinary_is_left_to_click(line: str) -> None:
    assert read(line.split()) is None


def test_every_option_is_one_of_the_command() -> None:
    known = {name for option in run.params if isinstance(option, click.Option) for name in option.opts}
    assert set(_OPTIONS) <= known


def test_a_worker_goes_without_click() -> None:
    code = (
        "import sys; from engine.cli.main import main\n"
        "try: main(['run', 'no_such_app', '-c', '1'])\n"
        "except SystemExit as end: print(end.code, 'click' in sys.modules, 'rich' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "1 False False\n"
    assert "there is no module 'no_such_app'" in done.stderr
