"""Whether a worker's processes grow: their resident memory after a tenth, half and all of the tasks.

The tasks are published as they are worked off, a tenth at a time, so that the broker holds few of them.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil

from engine.bench.measuring import Run, Sample, filler, wait_for

_SHARES = 10


def memory(run: Run) -> Sample:
    """The largest process of the worker that runs tasks."""
    plan, folder = run.plan, Path(run.plan.folder)
    done, seen = 0, {}
    with filler(run) as publisher, run.worker() as worker:
        for share in range(1, _SHARES + 1):
            upto = plan.tasks * share // _SHARES
            if upto > done:
                publisher.ask("publish-many", upto - done)
            progress = wait_for(worker, folder, upto, run.tick)
            done = upto
            seen[share] = largest_rss_mib(folder)
        worker.check()
        spent_s = worker.meter.read_s()
        worker.stop()
    more = {"rss10_mib": seen[1], "rss50_mib": seen[5], "rss100_mib": seen[10]}
    more["rss_growth"] = seen[10] / seen[1] if seen[1] else 1.0
    rate = done / (progress.last_s - progress.first_s)
    return Sample(rate=rate, worker_us=spent_s / done * 1e6, more=more)


def largest_rss_mib(folder: Path) -> float:
    """The most that one of the processes has which have counted tasks in that folder; 0 when all are gone."""
    most = 0
    for path in folder.glob("*.tally"):
        with contextlib.suppress(psutil.Error):
            most = max(most, psutil.Process(int(path.stem)).memory_info().rss)
    return most / 2**20
