"""How evenly a side shares work among its processes: the makespan of five queues (`naps`), beside the ideal.

A process that holds tasks back while its siblings are idle loses here. All processes are there and the queue
is full when the clock starts, at the first task's begin. Two figures tell what is not the sharing's: how much
longer the tasks slept than they asked for (the timer, a CPU that others had), when the last process joined.
"""

from __future__ import annotations

from pathlib import Path

from engine.bench.measuring import Run, Sample, wait_for
from engine.bench.naps import ideal_s, naps_of
from engine.bench.standstill import let_go, standstill
from engine.bench.tally import read_tallies
from engine.bench.tasks import SHORT


def sharing(run: Run) -> Sample:
    """One scenario, drained once."""
    plan, folder = run.plan, Path(run.plan.folder)
    naps = naps_of(plan.workload, plan.scale)
    with standstill(run, "naps", len(naps)) as worker:
        with let_go(run):
            done = wait_for(worker, folder, len(naps), run.tick)
        worker.stop()
    best_s, best_short_s = ideal_s(naps, plan.concurrency)
    makespan_s = done.last_s - done.first_s
    more = {"makespan_s": makespan_s, "ideal_s": best_s, "over_ideal": makespan_s / best_s}
    if best_short_s:
        short_s = read_tallies(folder / SHORT).last_s - done.first_s
        more |= {"short_s": short_s, "short_over_ideal": short_s / best_short_s}
    more["slept"] = done.slept_s / sum(nap.seconds for nap in naps)
    more["joined_ms"] = (done.joined_s - done.first_s) * 1000
    return Sample(tasks=len(naps), more=more)
