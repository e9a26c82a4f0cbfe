"""The two ways in which `engine demo` counts: tasks run by a worker, and a plain loop."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.bench.processes import Worker, ends_all
from engine.cli.progress import Bar
from engine.errors import EngineError

if TYPE_CHECKING:
    from engine.results.base import ResultStore

Counts = dict[str, Any]

BATCH = 200  # tasks published together
STALL_S = 60.0  # no result for so long means that something is wrong
LOOK_S = 1.0  # how often a wait looks whether the worker still lives


@dataclass(frozen=True, slots=True)
class Counted:
    """What was found, file by file, and how long it took."""

    counts: list[Counts]
    seconds: float


def count_in_background(
    files: list[str], broker: str, queue: str, concurrency: int, scratch: Path, bar: Bar
) -> Counted:
    """Send a task for each file, let a worker run them, and collect the results."""
    with _environment(broker, queue) as environ:
        from engine.canvas import group
        from engine.demo.word_count import app, measure

        command = [
            "-m",
            "engine",
            "run",
            "engine.demo.word_count:app",
            "-c",
            str(concurrency),
            "-l",
            "warning",
        ]
        with ends_all(), Worker(command, scratch, environ, "demo") as worker:
            try:
                start_s = time.monotonic()
                bar.begin("publishing", len(files))
                sent: list[str] = []
                for start in range(0, len(files), BATCH):
                    batch = group(measure.s(path) for path in files[start : start + BATCH])
                    sent += [result.id for result in batch.apply_async().results]
                    bar.reach(len(sent))
                bar.begin("counting", len(files))
                counts = []
                for number, task_id in enumerate(sent, 1):
                    counts.append(_wait(app.results, task_id, worker))
                    bar.reach(number)
                seconds = time.monotonic() - start_s
            finally:
                worker.stop()
                _delete_queue(app, queue)
                app.close()
    return Counted(counts, seconds)


def count_plainly(files: list[str], bar: Bar) -> Counted:
    """The same function, called in a loop."""
    from engine.demo.word_count import measure

    bar.begin("checking in one process", len(files))
    start_s = time.monotonic()
    counts = []
    for number, path in enumerate(files, 1):
        counts.append(measure(path))
        bar.reach(number)
    return Counted(counts, time.monotonic() - start_s)


def add_up(counts: Iterable[Counts]) -> Counts:
    """Sums over all files, and one digest of all digests in order."""
    totals = {"files": 0, "unreadable": 0, "bytes": 0, "lines": 0, "words": 0, "tokens": 0}
    digest = hashlib.sha256()
    for count in counts:
        totals["files"] += 1
        totals["unreadable"] += "error" in count
        for name in ("bytes", "lines", "words", "tokens"):
            totals[name] += count.get(name, 0)
        digest.update(str(count.get("sha256") or count.get("error")).encode())
    return {**totals, "sha256": digest.hexdigest()}


def _wait(results: ResultStore, task_id: str, worker: Worker) -> Counts:
    deadline_s = time.monotonic() + STALL_S
    while True:
        meta = results.wait(task_id, LOOK_S)
        if meta is not None:
            break
        worker.check()
        if time.monotonic() > deadline_s:
            raise EngineError(f"no result for {STALL_S:.0f} s; the worker says: {worker.log_tail()}")
    if meta.status != "SUCCESS":
        raise EngineError(f"a task ended as {meta.status}: {meta.result}")
    counts: Counts = meta.result
    return counts


@contextmanager
def _environment(broker: str, queue: str) -> Iterator[dict[str, str]]:
    """The app's settings as environment variables, for the worker and for this process's import."""
    given = {
        "ENGINE_BROKER_URL": broker,
        "ENGINE_RESULT_BACKEND": results_beside(broker),
        "ENGINE_TASK_DEFAULT_QUEUE": queue,
    }
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield dict(os.environ)
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def results_beside(broker: str) -> str:
    """Where results go when only a broker is named: AMQP brings them back, the others keep them."""
    return "rpc://" if broker.startswith(("amqp", "pyamqp")) else broker


def _delete_queue(app: Any, queue: str) -> None:
    try:
        transport = app.open_transport()
    except EngineError:
        return  # the broker is gone, and that is what the user must hear
    try:
        transport.delete_queue(queue)
    finally:
        transport.close()
