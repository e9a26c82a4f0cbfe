"""What tasks print is in the log, line by line, and nothing of it is lost or goes round in circles."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from engine.worker.logs import REDIRECTED_LOGGER
from engine.worker.redirect import LogStream
from tests.worker.conftest import Place
from tests.worker.harness import Worker, wait_for


class _Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def heard() -> Iterator[_Heard]:
    handler, logger = _Heard(), logging.getLogger(REDIRECTED_LOGGER)
    logger.addHandler(handler)
    logger.propagate = False
    yield handler
    logger.removeHandler(handler)
    logger.propagate = True


def _stream(behind: Any = None) -> LogStream:
    return LogStream(behind or io.StringIO(), logging.WARNING)


def test_a_line_is_a_record_however_it_is_written(heard: _Heard) -> None:
    stream = _stream()
    print("a", "b", 3, file=stream)
    print("two\nlines", file=stream)
    print(file=stream)
    stream.writelines(["x", "y\r\n"])
    assert heard.lines == ["a b 3", "two", "lines", "xy"]


def test_an_unfinished_line_is_kept_and_not_lost(heard: _Heard) -> None:
    stream = _stream()
    stream.write("begun")
    assert heard.lines == []
    stream.flush()
    assert heard.lines == ["begun"]
    thread = threading.Thread(target=stream.write, args=("elsewhere",))
    thread.start()
    thread.join()
    stream.write("here\n")
    assert heard.lines[1:] == ["here"]
    stream.release()
    assert heard.lines[2:] == ["elsewhere"]
    stream.write("x" * 9000)
    assert len(heard.lines[-1]) == 9000, "a line without an end is not held for ever"
    stream.write("last")
    stream.close()
    assert heard.lines[-1] == "last"
    stream.write("after closing\n")
    assert heard.lines[-1] == "after closing"


def test_no_line_can_be_forged(heard: _Heard) -> None:
    _stream().write("good\rbad \x1b[31m\n")
    assert heard.lines == ["good\\x0dbad \\x1b[31m"]


def test_what_logging_writes_meanwhile_goes_behind(heard: _Heard) -> None:
    behind = io.StringIO()
    stream = _stream(behind)
    logging.getLogger(REDIRECTED_LOGGER).addHandler(bound := logging.StreamHandler(stream))
    try:
        stream.write("once\n")
    finally:
        logging.getLogger(REDIRECTED_LOGGER).removeHandler(bound)
    assert heard.lines == ["once"]
    assert behind.getvalue() == "once\n"


def test_it_is_a_stream_like_the_one_behind(heard: _Heard) -> None:
    stream = _stream(sys.__stdout__)
    assert sys.__stdout__ is not None
    assert stream.fileno() == sys.__stdout__.fileno()
    assert stream.encoding == sys.__stdout__.encoding
    assert stream.isatty() is False
    assert stream.writable()
    stream.buffer.write("é".encode()[:1])
    stream.buffer.write("é\n".encode()[1:])
    assert heard.lines == ["é"]
    with pytest.raises(TypeError, match="takes a str, not bytes"):
        stream.write(b"x")  # type: ignore[arg-type]
    with pytest.raises(io.UnsupportedOperation):
        LogStream(None, logging.WARNING).fileno()


# -- in a worker ---------------------------------------------------------------------------------------


def _entries(worker: Worker) -> list[dict[str, Any]]:
    """The log of a worker that logs JSON: every line is an object."""
    return [json.loads(line) for line in worker.log().splitlines()]


def _printed(worker: Worker) -> list[str]:
    return [entry["message"] for entry in _entries(worker) if entry["logger"] == REDIRECTED_LOGGER]


def test_a_log_of_json_stays_one(sqlite_place: Place) -> None:
    with sqlite_place.worker(concurrency=1, json_logs=True, expects_ready=False) as worker:
        spoken = sqlite_place.send("speak", "one", "two")
        spoken.get(timeout=20)
        sqlite_place.send("fork_and_speak", "from the fork").get(timeout=20)
        sqlite_place.send("speak", "last words", kwargs={"end": ""}).get(timeout=20)
        wait_for(lambda: "! last words" in worker.log(), what="the last task's lines")
        assert worker.stop() == 0
    assert _printed(worker) == [
        *("one two", "! one", "! two", "in bytes é"),
        *("from the fork", "begun and ended"),
        *("! last words", "last words"),
    ]
    entry = next(entry for entry in _entries(worker) if entry["message"] == "one two")
    assert entry["level"] == "WARNING"
    assert entry["task_id"] == spoken.id
    assert entry["task"] == "tests.worker.sample_app.speak"


def test_an_idle_child_ends_a_line_that_its_task_did_not(sqlite_place: Place) -> None:
    sqlite_place.environ["ENGINE_WORKER_REDIRECT_STDOUTS_LEVEL"] = "error"
    with sqlite_place.worker(concurrency=1, json_logs=True, loglevel="ERROR", expects_ready=False) as worker:
        sqlite_place.send("speak", kwargs={"end": "no end"}).get(timeout=20)
        wait_for(lambda: "no end" in worker.log(), what="the line to be given up")
        assert worker.stop() == 0
    assert {entry["level"] for entry in _entries(worker)} == {"ERROR"}


def test_a_handler_bound_to_the_stream_does_not_recurse(sqlite_place: Place) -> None:
    with sqlite_place.worker(concurrency=1) as worker:
        sqlite_place.send("speak_through_logging", "round").get(timeout=20)
        assert worker.stop() == 0
    assert 3 <= worker.log().count("round") <= 12
    assert sqlite_place.ledger.count("stdout", 1, False) == 1


def test_it_can_be_switched_off(sqlite_place: Place) -> None:
    sqlite_place.environ["ENGINE_WORKER_REDIRECT_STDOUTS"] = "false"
    with sqlite_place.worker(concurrency=1) as worker:
        sqlite_place.send("speak", "plain").get(timeout=20)
        assert worker.stop() == 0
    assert "\nplain\n" in worker.log()


def test_a_level_that_there_is_not_is_an_error(sqlite_place: Place) -> None:
    sqlite_place.environ["ENGINE_WORKER_REDIRECT_STDOUTS_LEVEL"] = "loud"
    with sqlite_place.worker(expects_ready=False) as worker:
        assert worker.wait() == 1
    assert (
        "worker_redirect_stdouts_level is DEBUG, INFO, WARNING, ERROR or CRITICAL, not 'loud'" in worker.log()
    )
