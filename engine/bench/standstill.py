"""A worker whose processes are all there before the clock starts: each is held by a task until it is let go.

Without this, what is measured has the start of the processes in it: on a machine of few CPUs the last of many
joins long after the first.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from engine.bench.measuring import POLL_S, STALL_S, Run
from engine.bench.processes import Publisher, Worker
from engine.bench.tasks import GO, HELD
from engine.errors import EngineError

_AGAIN_S = 1.0  # a process that hoards has more than one of the tasks that hold: the others get new ones
_SETTLE_S = 0.5  # what else a worker does at its start has been done


@contextmanager
def standstill(run: Run, deed: str, messages: int) -> Iterator[Worker]:
    """The side's worker, each of its processes held, and behind that so many messages queued by ``deed``.

    They wait for `let_go`; what ends the measurement early lets them go too, for the worker waits for their
    tasks. Raises EngineError when a process does not begin to work."""
    folder = Path(run.plan.folder)
    os.mkfifo(folder / GO)
    # held processes may have prefetched, so no queue's length tells that all have arrived
    confirming = replace(run.plan, confirm=True)
    with (
        ExitStack() as after,
        Publisher(run.side.module, confirming, run.side.name) as publisher,
        run.worker() as worker,
    ):
        try:
            _hold(worker, publisher, folder, run.plan.concurrency)
            publisher.ask(deed, messages)
            time.sleep(_SETTLE_S)
            yield worker
        except BaseException:
            after.enter_context(let_go(run))
            raise


@contextmanager
def let_go(run: Run) -> Iterator[None]:
    """Every process that is held goes on, at once; tasks that would hold one later on end at once."""
    gate = os.open(Path(run.plan.folder) / GO, os.O_RDWR)  # for reading too: opening it waits for nobody
    try:
        yield
    finally:
        os.close(gate)


def _hold(worker: Worker, publisher: Publisher, folder: Path, processes: int) -> None:
    publisher.ask("hold", processes)
    started_s = asked_s = time.monotonic()
    while (held := len(list((folder / HELD).glob("*")))) < processes:
        worker.check()
        now_s = time.monotonic()
        if now_s - started_s > STALL_S:
            raise EngineError(f"not all of {processes} processes have begun to work after {STALL_S:.0f} s")
        if now_s - asked_s > _AGAIN_S and held:
            publisher.ask("hold", processes - held)
            asked_s = now_s
        time.sleep(POLL_S)
