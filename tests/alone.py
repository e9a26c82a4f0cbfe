"""``@pytest.mark.alone``: no other test runs meanwhile, in however many processes the tests run.

It is for bounds of a few milliseconds, which a busy neighbour would break. The tests marked so come first and
in one stretch, so that the other processes wait for them once and not again and again. The locks are record
locks on a file of the checkout: they end with their process, however it ends, and what it forks has none.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parent.parent / ".cache" / "tests-alone"
#: Bytes of the file. The floor is shared by those who run; who waits for it holds the turn, so that a test
#: that wants it alone is not passed by others without end.
_TURN, _FLOOR = 0, 1


class Alone:
    """The plugin: the order of the tests, and this process' locks."""

    def __init__(self) -> None:
        FILE.parent.mkdir(exist_ok=True)
        self._file = os.open(FILE, os.O_RDWR | os.O_CREAT, 0o644)
        self._kept = False  #: alone on the floor, from the test before this one

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: not _is_alone(item))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
        """Waits outside of the test's time limit."""
        if not self._kept:
            self._enter(alone=_is_alone(item))
        try:
            return (yield)
        finally:
            self._kept = _is_alone(item) and _is_alone(nextitem)
            if not self._kept:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _FLOOR)

    def _enter(self, *, alone: bool) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_EX, 1, _TURN)
        fcntl.lockf(self._file, fcntl.LOCK_EX if alone else fcntl.LOCK_SH, 1, _FLOOR)
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _TURN)


def _is_alone(item: pytest.Item | None) -> bool:
    return item is not None and item.get_closest_marker("alone") is not None
