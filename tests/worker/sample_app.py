"""The app of the worker's tests. Where it connects to is in the environment; what ran is in a ledger file."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from typing import Any

from engine import signals
from engine.app import Engine
from engine.errors import Ignore, Reject, SoftTimeLimitExceeded
from engine.results.base import ResultMeta
from engine.signals import worker_init, worker_process_init, worker_ready, worker_shutdown
from engine.worker.processes import rss_kib

app = Engine(
    "sample",
    broker=os.environ["SAMPLE_BROKER"],
    backend=os.environ.get("SAMPLE_BACKEND"),
    task_default_queue=os.environ["SAMPLE_QUEUE"],
    worker_unknown_task_grace=float(os.environ.get("SAMPLE_GRACE", "0")),
    broker_heartbeat=10,
    broker_lease=6,
    worker_enable_remote_control=os.environ.get("SAMPLE_REMOTE", "1") == "1",
    worker_state_db=os.environ.get("SAMPLE_STATE"),
    control_exchange=os.environ.get("SAMPLE_CONTROL", os.environ["SAMPLE_QUEUE"]),
)


def note(*words: Any) -> None:
    """One line, written in one call: whole whatever kills this process."""
    fd = os.open(os.environ["SAMPLE_LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, (" ".join(map(str, words)) + "\n").encode())
    finally:
        os.close(fd)


def take(until: float | str) -> None:
    """So many seconds; or until there is a file of that name, which a test makes."""
    if not isinstance(until, str):
        time.sleep(until)
        return
    deadline_mono_s = time.monotonic() + 60
    while not os.path.exists(until) and time.monotonic() < deadline_mono_s:
        time.sleep(0.02)


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task
def work(key: Any, until: float | str = 0.0) -> None:
    """Start and finish stand in the ledger."""
    note("start", key, os.getpid())
    if until:
        take(until)
    note("finish", key, os.getpid())


@app.task(acks_late=False)
def early(key: Any) -> None:
    note("start", key)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(acks_late=False)
def early_sleep(key: Any) -> None:
    note("start", key)
    time.sleep(60)


@app.task
def start_program(key: Any) -> None:
    """A program that says when it is told to end."""
    ledger = os.environ["SAMPLE_LEDGER"]
    script = (
        f"trap 'echo {key}-ended >> {ledger}; exit' TERM; echo {key}-runs >> {ledger}; "
        "while true; do sleep 0.05; done"
    )
    subprocess.run(["/bin/sh", "-c", script], check=False)


@app.task(acks_late=False)
def early_work(key: Any, until: float | str) -> None:
    note("start", key)
    take(until)
    note("finish", key)


@app.task
def die(key: Any) -> None:
    """A poison task: it kills its child each time."""
    note("start", key)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(bind=True)
def succeed_and_die(self: Any, key: Any) -> None:
    """Its result is stored, its message not acknowledged."""
    note("start", key)
    app.results.store([ResultMeta(self.request.id, "SUCCESS", key)])
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(reject_on_worker_lost=False)
def die_once(key: Any) -> None:
    note("start", key)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task
def speak(*lines: str, end: str = "\n") -> None:
    """Prints them, and says the same to standard error."""
    print(*lines, end=end)
    sys.stderr.write("".join(f"! {line}\n" for line in lines))
    if end == "\n":
        sys.stdout.buffer.write(b"in bytes \xc3\xa9\n")


@app.task
def speak_through_logging(text: str) -> None:
    """A handler made in the task is bound to the redirected stream: its lines come back to it."""
    logger = logging.getLogger("sample.noisy")
    logger.addHandler(logging.StreamHandler())
    logging.getLogger().addHandler(logging.StreamHandler())
    logger.warning("%s", text)
    print(text)
    sys.stdout.flush()
    note("stdout", sys.stdout.fileno(), sys.stdout.isatty(), sys.stdout.encoding)


@app.task
def fork_and_speak(text: str) -> None:
    """The forked process has no part in the line that was begun here."""
    print("begun", end=" ")
    pid = os.fork()
    if pid == 0:
        print(text)
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(pid, 0)
    print("and ended")


@app.task
def exits(code: int) -> None:
    """Ends its process, as no task should."""
    note("start", "exits", code)
    os._exit(code)


@app.task
def closes(first: int, files: int) -> None:
    """Closes what a daemon closes; and opens as many files, which get the numbers."""
    note("start", "closes", first)
    os.closerange(first, 1000)
    for _ in range(files):
        os.open(os.devnull, os.O_RDWR)


@app.task
def forks(how: str) -> list[int]:
    """Its fork comes back out of the task; the task tells the fork's exit status."""
    pid = os.fork()
    if pid == 0:
        if how == "exit":
            sys.exit(7)
        if how == "raise":
            raise ValueError("in the fork")
        if how == "interrupt":
            raise KeyboardInterrupt
        return []
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])]


@app.task
def fail(text: str) -> None:
    raise ValueError(text)


@app.task
def unwritable() -> object:
    return object()


@app.task(track_started=True)
def told(until: float | str) -> str:
    take(until)
    return "done"


@app.task(ignore_result=True, track_started=True)
def silent(key: Any) -> Any:
    note("finish", key)
    return key


@app.task(acks_on_failure_or_timeout=False)
def strict(key: Any) -> None:
    note("start", key)
    raise ValueError(key)


@app.task
def step(x: int, y: int) -> int:
    return x * 10 + y


@app.task
def leave() -> None:
    raise SystemExit(3)


@app.task
def ignore() -> None:
    raise Ignore()


@app.task
def reject() -> None:
    note("start", "reject")
    raise Reject("no", requeue=False)


@app.task
async def later(x: int) -> int:
    await asyncio.sleep(0.01)
    return x * 2


@app.task(bind=True, max_retries=5)
def again(self: Any, until: int) -> int:
    note("try", self.request.retries)
    if self.request.retries < until:
        raise self.retry(countdown=0.1)
    return int(self.request.retries)


@app.task(soft_time_limit=0.3)
def soft() -> str:
    try:
        time.sleep(20)
    except SoftTimeLimitExceeded:
        note("soft")
        return "caught"
    return "not caught"


@app.task(soft_time_limit=0.3)
def soft_uncaught() -> None:
    while True:
        time.sleep(0.01)


@app.task(time_limit=0.6)
def hard(key: Any) -> None:
    note("start", key)
    time.sleep(60)
    note("finish", key)


@app.task(bind=True)
def whoami(self: Any) -> dict[str, Any]:
    request = self.request
    return {
        "pid": os.getpid(),
        "id": request.id,
        "hostname": request.hostname,
        "queue": request.delivery_info["routing_key"],
        "stdin": os.read(0, 1).decode(),
    }


@app.task
def weigh(text: str) -> tuple[int, int]:
    """Its process, and what that takes meanwhile, in KiB."""
    return os.getpid(), rss_kib()


def _signalled(name: str) -> Any:
    def receiver(**_named: Any) -> None:
        note("signal", name, os.getpid())

    return receiver


def _task_signalled(name: str) -> Any:
    def receiver(sender: Any, **named: Any) -> None:
        if sender.name.endswith("watched"):
            note("signal", name, named.get("task_id", "-"), named.get("state", "-"))

    return receiver


@app.task(bind=True, max_retries=1)
def watched(self: Any, fails: bool) -> int:
    if fails and self.request.retries == 0:
        raise self.retry(countdown=0)
    if fails:
        raise ValueError("watched")
    return 1


for _name in ("task_prerun", "task_postrun", "task_success", "task_failure", "task_retry"):
    getattr(signals, _name).connect(_task_signalled(_name), weak=False)


def _on_revoked(request: Any, terminated: bool, signum: Any, expired: bool, **_named: Any) -> None:
    note("revoked", request.id, terminated, signum, expired)


signals.task_revoked.connect(_on_revoked, weak=False)
worker_init.connect(_signalled("worker_init"), weak=False)
worker_process_init.connect(_signalled("worker_process_init"), weak=False)
worker_ready.connect(_signalled("worker_ready"), weak=False)
worker_shutdown.connect(_signalled("worker_shutdown"), weak=False)
