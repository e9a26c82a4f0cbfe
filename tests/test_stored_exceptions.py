"""Exceptions to and from a result store: nothing is imported, nothing that is not an exception is called."""

from __future__ import annotations

import sys
from subprocess import CalledProcessError
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import NotRegistered, TaskFailed, TimeLimitExceeded
from engine.stored_exceptions import exception_from_stored, exception_to_stored


class Custom(Exception):
    def __init__(self, code: int, *, detail: str) -> None:
        super().__init__(code)
        self.detail = detail

    class Inner(ValueError):
        pass


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a", 1),
        KeyError(),
        Custom.Inner("in"),
        CalledProcessError(1, "x"),
        OSError(2, "no"),
    ],
    ids=repr,
)
def test_there_and_back(error: Exception) -> None:
    back = exception_from_stored(exception_to_stored(error))
    assert type(back) is type(error)
    assert back.args == error.args


def test_a_constructor_of_its_own_is_gone_around() -> None:
    back = exception_from_stored(exception_to_stored(Custom(5, detail="d")))
    assert isinstance(back, Custom)
    assert back.args == (5,)


def test_arguments_that_json_cannot_hold_become_their_repr() -> None:
    stored = exception_to_stored(ValueError("fine", object, {1, 2}))
    assert stored["exc_message"] == ["fine", repr(object), "{1, 2}"]


@pytest.mark.parametrize(
    ("error", "name"), [(TimeLimitExceeded(5), "TimeLimitExceeded"), (NotRegistered("t"), "NotRegistered")]
)
def test_ours_are_stored_under_celerys_names(error: Exception, name: str) -> None:
    stored = exception_to_stored(error)
    assert (stored["exc_module"], stored["exc_type"]) == ("celery.exceptions", name)
    assert type(exception_from_stored(stored)) is type(error)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("builtins", "print"),
        ("subprocess", "Popen"),
        ("builtins", "SystemExit"),
        ("builtins", "KeyboardInterrupt"),
        ("pathlib", "Path.unlink"),
        ("engine.errors", "__builtins__"),
        ("a_module_that_was_never_loaded", "Error"),
        (None, "Error"),
        ({}, "Error"),
    ],
)
def test_what_is_no_exception_class_is_never_called(module: Any, name: str, tmp_path: Any) -> None:
    target = tmp_path / "canary"
    stored = {"exc_type": name, "exc_message": [f"touch {target}"], "exc_module": module}
    error = exception_from_stored(stored)
    assert type(error) is TaskFailed
    assert name in str(error)
    assert not target.exists()


def test_nothing_is_imported() -> None:
    assert "this" not in sys.modules
    exception_from_stored({"exc_type": "Error", "exc_message": "", "exc_module": "this"})
    assert "this" not in sys.modules


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.one_of(
        json_values,
        st.fixed_dictionaries(
            {"exc_type": json_values}, optional={"exc_message": json_values, "exc_module": json_values}
        ),
    )
)
def test_any_stored_value_gives_an_exception(stored: Any) -> None:
    assert isinstance(exception_from_stored(stored), BaseException)
