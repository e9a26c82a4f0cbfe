"""Whose logging set-up holds: the worker's, the app's, or that of a receiver of ``setup_logging``."""

from __future__ import annotations

import io
import logging

import pytest

from engine.worker.logs import LineFormatter, wants_color
from tests.worker.conftest import Place


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colour_is_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert wants_color(None, _Terminal())
    assert wants_color(True, _Terminal())
    assert not wants_color(False, _Terminal())
    assert not wants_color(True, io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_color(None, _Terminal())
    assert wants_color(True, _Terminal()), "whoever asks for it by name gets it"


def test_the_level_alone_is_coloured() -> None:
    record = logging.LogRecord("x", logging.ERROR, "x", 1, "ERROR in %s", ("ERROR",), None)
    line = LineFormatter(colored=True).format(record)
    assert line.replace("\x1b[31mERROR\x1b[0m", "ERROR", 1) == LineFormatter().format(record)
    assert line.count("\x1b") == 2
    record.levelno = logging.INFO
    assert "\x1b" not in LineFormatter(colored=True).format(record)


def _log_of(place: Place, kind: str, hijack: bool) -> str:
    place.environ.update(SAMPLE_LOGGING=kind, ENGINE_WORKER_HIJACK_ROOT_LOGGER=str(hijack))
    with place.worker(app="tests.worker.logging_app:app", concurrency=1) as worker:
        place.send("add", 1, 1).get(timeout=20)
        assert worker.stop() == 0
    return worker.log()


@pytest.mark.parametrize("kind", ["basic", "dict"])
def test_the_worker_takes_over_what_the_app_set_up(sqlite_place: Place, kind: str) -> None:
    log = _log_of(sqlite_place, kind, hijack=True)
    assert "OWN" not in log
    assert "WARNING" in next(line for line in log.splitlines() if "said at import" in line)
    assert "Task tests.worker.sample_app.add[" in log


@pytest.mark.parametrize("kind", ["basic", "dict"])
def test_the_apps_own_set_up_can_stay(sqlite_place: Place, kind: str) -> None:
    log = _log_of(sqlite_place, kind, hijack=False)
    assert "OWN engine.task Task tests.worker.sample_app.add[" in log
    assert log.count("Task tests.worker.sample_app.add[") == 1, "no line is logged twice"


def test_a_receiver_of_setup_logging_does_it_alone(sqlite_place: Place) -> None:
    log = _log_of(sqlite_place, "signal", hijack=True)
    assert "SIGNAL engine.task Task tests.worker.sample_app.add[" in log
    assert log.count("Task tests.worker.sample_app.add[") == 1
