"""Finding an app by what a command names."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.app import Engine
from engine.errors import ConfigurationError
from engine.loader import load_app

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unique: str) -> Write:
    """Write a module of a new name in the current directory; the name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def make(source: str, folder: str = "", suffix: str = "") -> str:
        name = f"m{unique.replace('-', '')}{suffix}"
        target = tmp_path / folder
        target.mkdir(exist_ok=True)
        (target / f"{name}.py").write_text("from engine import Engine\n" + source)
        return name

    monkeypatch.setattr(make, "before", before, raising=False)
    return make


def test_by_module_and_attribute(write: Write) -> None:
    name = write("mine = Engine('x')\n")
    app = load_app(f"{name}:mine")
    assert isinstance(app, Engine)
    assert load_app(name) is app
    assert load_app(f"{name}.mine") is app


def test_by_file(write: Write, tmp_path: Path) -> None:
    name = write("app = Engine()\n@app.task\ndef add(a, b): return a + b\n", folder="sub")
    app = load_app(f"sub/{name}.py")
    assert load_app(f"{tmp_path}/sub/{name}.py:app") is app
    assert list(app.tasks) == [f"{name}.add"]


def test_the_usual_name_wins_among_several(write: Write) -> None:
    app = load_app(write("other = Engine()\napp = Engine('chosen')\n"))
    assert app.main == "chosen"


def test_a_factory_is_called(write: Write) -> None:
    assert load_app(write("def make():\n    return Engine('made')\n") + ":make").main == "made"


@pytest.mark.parametrize(
    ("source", "suffix", "words"),
    [
        (
            "application_one = Engine()\n",
            ":applicaton",
            "has no 'applicaton': did you mean .*_one",
        ),
        ("a = Engine()\nb = Engine()\n", "", "several apps: name one, .*:a or .*:b"),
        ("x = 1\n", "", r"no app in .*: it needs a line like app = Engine\(\)"),
        ("x = 1\n", ":x", "is not an app but a builtins.int"),
        ("from celery import Celery\nx = Celery()\n", ":x", "is a Celery app"),
    ],
)
def test_one_clear_line_for_what_is_not_there(write: Write, source: str, suffix: str, words: str) -> None:
    name = write(source)
    with pytest.raises(ConfigurationError, match=words) as caught:
        load_app(name + suffix)
    assert "\n" not in str(caught.value)


def test_a_module_that_is_not_there(write: Write) -> None:
    name = write("app = Engine()\n")
    with pytest.raises(ConfigurationError, match=f"there is no module '{name}x': did you mean '{name}'"):
        load_app(f"{name}x:app")
    with pytest.raises(ConfigurationError, match="there is no module"):
        load_app("no.such.package:app")
    with pytest.raises(ConfigurationError, match=r"there is no file 'nothing\.py'"):
        load_app("nothing.py")
    with pytest.raises(ConfigurationError, match="name the app as"):
        load_app(":app")


def test_an_error_in_the_users_module_is_shown_as_it_is(write: Write) -> None:
    with pytest.raises(ZeroDivisionError):
        load_app(write("1 / 0\n"))
    broken = write("import a_module_that_is_missing\n", suffix="b")
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_missing"):
        load_app(broken)


def test_a_file_that_fails_leaves_nothing_behind(write: Write) -> None:
    name = write("1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        load_app(f"{name}.py")
    assert name not in sys.modules
