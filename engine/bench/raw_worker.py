"""The raw side's worker: one process for each unit of concurrency, each with a connection of its own.

The first of them to die ends all, so that the bench hears of it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from engine.bench.plan import Plan
from engine.bench.points import FAMILIES
from engine.bench.raw_common import broker_module
from engine.bench.tally import Tally
from engine.bench.tasks import BEGIN, make_tasks
from engine.codec import Delivery

_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}


def main() -> int:
    """Until told to end."""
    plan = Plan.from_env()
    module = broker_module(plan)
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    children = [_start(plan, module.work) for _ in range(plan.concurrency)]
    cause = signal.sigwait(_SIGNALS)
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    return 1 if cause == signal.SIGCHLD else 0


def _start(plan: Plan, work: Callable[..., None]) -> int:
    pid = os.fork()
    if pid:
        return pid
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    try:
        if plan.workload in FAMILIES["growth-children"]:
            make_tasks(plan.folder).hold()
        work(plan, _counter(plan))
    except Exception as error:  # noqa: BLE001 - whatever it is, the log is to tell it
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)  # noqa: T201
    os._exit(1)


def _counter(plan: Plan) -> Callable[[int, Callable[[], Delivery]], None]:
    """Counts what was received. A message that comes alone may be the one that tells when it begins."""
    tally, begin = Tally(Path(plan.folder)), make_tasks(plan.folder).begin

    def received(count: int, first: Callable[[], Delivery]) -> None:
        if count == 1 and first().header("task") == BEGIN:
            begin()
        else:
            tally.add(count)

    return received


if __name__ == "__main__":
    sys.exit(main())
