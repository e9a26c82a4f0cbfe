"""The small parts: limits, verdicts, signals as messages, pid files, log lines, the banner, the recorder."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from engine.errors import ConfigurationError, SoftTimeLimitExceeded
from engine.worker import recorder, scoreboard
from engine.worker.banner import banner
from engine.worker.children import Child, State
from engine.worker.finished import RING_KEYS, Finished, key_of
from engine.worker.intake import unix_time
from engine.worker.limits import SoftLimit, resolve
from engine.worker.logs import JsonFormatter, clean, clean_block
from engine.worker.options import WorkerOptions
from engine.worker.pidfile import pidfile
from engine.worker.scoreboard import SlotView
from engine.worker.signals import SignalInbox
from engine.worker.watchdog import BOOT, DEAF, HARD_LIMIT, judge
from tests.worker.harness import wait_for


@pytest.fixture
def soft() -> SoftLimit:
    limit = SoftLimit()
    limit.install()
    return limit


def test_soft_limit_strikes_in_the_main_thread(soft: SoftLimit) -> None:
    soft.arm(0.05)
    with pytest.raises(SoftTimeLimitExceeded) as raised:
        time.sleep(20)
    assert raised.value.args == (0.05,)
    soft.disarm()


def test_a_late_signal_does_nothing_once_disarmed(soft: SoftLimit) -> None:
    soft.arm(30)
    soft.disarm()
    signal.raise_signal(signal.SIGALRM)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_the_nearest_limit_holds() -> None:
    assert resolve(None, 2, 3) == 2.0
    assert resolve(0, 2) == 0.0, "an explicit 0 is no limit"
    assert resolve(None, None) == 0.0


def _view(**fields: float) -> SlotView:
    values = {"phase": scoreboard.IDLE, "stamp_mono_s": 100.0, "started_mono_s": 0.0, "deadline_mono_s": 0.0}
    values.update(fields)
    return SlotView(pid=7, generation=1, done=0, failed=0, task_id="t", task_name="n", **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("view", "state", "verdict"),
    [
        (_view(phase=scoreboard.RUNNING, deadline_mono_s=99.0), State.READY, HARD_LIMIT),
        (_view(phase=scoreboard.RUNNING_ACKED, deadline_mono_s=99.0), State.DRAINING, HARD_LIMIT),
        (_view(phase=scoreboard.RUNNING, deadline_mono_s=101.0), State.READY, None),
        (_view(phase=scoreboard.RUNNING, stamp_mono_s=0.0), State.READY, None),
        (_view(phase=scoreboard.IDLE, stamp_mono_s=80.0), State.READY, DEAF),
        (_view(phase=scoreboard.SETTLING, stamp_mono_s=95.0), State.READY, None),
        (_view(phase=scoreboard.SETTLING, deadline_mono_s=50.0), State.READY, None),
        (_view(phase=scoreboard.BOOTING), State.STARTING, BOOT),
        (None, State.STARTING, BOOT),
        (None, State.READY, None),
        (_view(phase=scoreboard.IDLE, stamp_mono_s=0.0), State.KILLED, None),
    ],
)
def test_who_must_be_killed(view: SlotView | None, state: State, verdict: str | None) -> None:
    child = Child(slot=0, generation=1, spawned_mono_s=50.0, pid=7, state=state)
    found = judge(child, view, now=100.0, boot_deadline_s=30.0, deaf_after_s=10.0)
    assert (found.reason if found else None) == verdict


def test_signals_are_read_like_messages() -> None:
    before = signal.getsignal(signal.SIGHUP)  # ignored under nohup
    inbox = SignalInbox([signal.SIGUSR2, signal.SIGHUP])
    try:
        assert inbox.read() == []
        os.kill(os.getpid(), signal.SIGUSR2)
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGUSR2)
        seen: list[int] = []
        wait_for(lambda: seen.extend(inbox.read()) or {signal.SIGUSR2, signal.SIGHUP} <= set(seen))
    finally:
        inbox.restore()
    assert signal.getsignal(signal.SIGHUP) == before


def test_finished_ids_are_remembered_by_all_and_forgotten_in_time() -> None:
    book = Finished(3)
    book.add(0, key_of("a", 0) + key_of("b", 2))
    book.add(2, key_of("c", 0))
    known = book.snapshot(3)
    assert {key_of("a", 0), key_of("b", 2), key_of("c", 0)} <= known
    assert key_of("b", 1) not in known, "another try of the same task"
    assert key_of("a", 0) not in {b""}
    book.add(0, b"".join(key_of(f"n{number}", 0) for number in range(RING_KEYS - 1)))
    again = book.snapshot(3)
    assert key_of("a", 0) not in again
    assert key_of("c", 0) in again
    assert key_of("x" * 60, 0) == b"", "too long to be remembered"
    book.add(1, key_of("a", 0) + key_of("a", 1) + key_of("ab", 0))
    book.forget(3, [key_of("c", 0), key_of("a", 1), key_of("never", 0), b""])
    assert {key_of("a", 0), key_of("ab", 0)} <= book.snapshot(3)
    assert not {key_of("c", 0), key_of("a", 1)} & book.snapshot(3)
    book.forget_task(3, "a")
    assert key_of("a", 0) not in book.snapshot(3)
    assert key_of("ab", 0) in book.snapshot(3)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("1970-01-01T00:00:10", 10.0),
        ("1970-01-01T00:00:10Z", 10.0),
        ("1970-01-01T01:00:10.500000+01:00", 10.5),
    ],
)
def test_times_on_the_wire(text: str | None, seconds: float | None) -> None:
    assert unix_time(text) == seconds


@pytest.mark.parametrize("text", ["soon", 12, "1970-13-01"])
def test_what_is_no_time(text: object) -> None:
    with pytest.raises(ValueError):
        unix_time(text)


def test_pidfile_is_held_by_one(tmp_path: Path) -> None:
    path = tmp_path / "worker.pid"
    with pidfile(str(path)):
        assert int(path.read_text()) == os.getpid()
        assert path.stat().st_mode & 0o777 == 0o600
        with pytest.raises(ConfigurationError, match="is running"), pidfile(str(path)):
            pytest.fail("two workers with one pid file")
        assert path.exists()
    assert not path.exists()
    path.write_text("999999999\n")
    with pidfile(str(path)):
        assert int(path.read_text()) == os.getpid(), "a stale file is replaced"


def test_pidfile_does_not_follow_links(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    (tmp_path / "worker.pid").symlink_to(target)
    with pidfile(str(tmp_path / "worker.pid")):
        assert not target.exists()


def test_nothing_from_outside_forges_a_line() -> None:
    assert clean("tasks.add\n2026 INFO forged\x1b[31m") == "tasks.add\\x0a2026 INFO forged\\x1b[31m"
    assert len(clean("x" * 5000)) == 200
    assert clean_block("one\ntwo\r\x1b[2Jthree") == "one\ntwo\\x0d\\x1b[2Jthree"


def test_json_lines_hold_what_extra_adds() -> None:
    record = logging.LogRecord("engine.task", logging.INFO, "f", 1, "Task %s\n", ("a",), None)
    record.task_id = "id-1"
    line = JsonFormatter().format(record)
    assert "\n" not in line
    entry = json.loads(line)
    assert (entry["message"], entry["task_id"], entry["level"]) == ("Task a\n", "id-1", "INFO")


def test_banner_names_the_first_ten_tasks() -> None:
    info = {
        "version": "1.0",
        "app": "shop",
        "broker": "amqp://user:**@host",
        "results": None,
        "queues": ["celery", "mail"],
        "tasks": [f"t{number}" for number in range(12)],
        "task_count": 12,
    }
    text = "\n".join(banner(info, WorkerOptions(concurrency=4, hostname="shop@here"), 123))
    for part in (
        "1.0",
        "shop@here",
        "pid 123",
        "amqp://user:**@host",
        "none",
        "celery, mail",
        "t9 and 2 more",
    ):
        assert part in text
    assert "t10" not in text


def test_hostnames() -> None:
    host = os.uname().nodename
    assert WorkerOptions().nodename() == f"engine@{host}"
    assert WorkerOptions(hostname="mail@%h").nodename() == f"mail@{host}"
    assert WorkerOptions(hostname="mail").nodename() == f"mail@{host}"


def test_the_recorder_sees_where_a_process_is() -> None:
    fd = recorder.create()
    pid = os.fork()
    if pid == 0:
        recorder.arm(fd)
        while True:
            time.sleep(1)
    try:
        stack = wait_for(lambda: recorder.ask(pid, fd) if _has_handler(pid) else None, what="the stack")
        assert "test_the_recorder_sees_where_a_process_is" in stack
        assert recorder.ask(pid, fd) is not None, "and again"
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(fd)
    assert sys.exc_info() == (None, None, None)


def _has_handler(pid: int) -> bool:
    """Before its handler stands, the signal would end it."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (recorder.DUMP_SIGNAL - 1) & 1)
