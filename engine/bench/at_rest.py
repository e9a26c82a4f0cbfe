"""What a worker costs before and between tasks: the time until its first has ended, and idle processes."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import psutil

from engine.bench.cpu import broker_address, process_tree
from engine.bench.measuring import Run, Sample, fill, wait_for

_TASKS_EACH = 20  #: run before the rest, so that every process has done what it does once
_SETTLE_S = 1.0


def start(run: Run) -> Sample:
    """A task waits; from the worker's start to that task's end."""
    fill(run, 1)
    with run.worker() as worker:
        done = wait_for(worker, Path(run.plan.folder), 1, run.tick)
        worker.stop()
    return Sample(tasks=1, more={"start_ms": (done.last_s - worker.started_s) * 1000})


def idle(run: Run) -> Sample:
    """All the worker's processes after a while without tasks: memory, CPU, connections to the broker."""
    plan = run.plan
    tasks = _TASKS_EACH * plan.concurrency
    fill(run, tasks)
    with run.worker() as worker:
        wait_for(worker, Path(plan.folder), tasks, run.tick)
        time.sleep(_SETTLE_S)
        before_s, clock_s = worker.meter.read_s(), time.monotonic()
        time.sleep(plan.idle_s)
        cpu = (worker.meter.read_s() - before_s) / (time.monotonic() - clock_s)
        worker.check()
        processes = process_tree(worker.popen.pid)
        more = {
            "pss_mib": sum(map(pss_bytes, processes)) / 2**20,
            "processes": float(len(processes)),
            "connections": float(sum(connections(pid, plan.broker) for pid in processes)),
            "idle_cpu": cpu * 100,
        }
        worker.stop()
    return Sample(tasks=tasks, more=more)


def pss_bytes(pid: int) -> int:
    """Proportional set size: a page shared by n processes counts 1/n for each. 0 when the process is gone."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    with contextlib.suppress(psutil.Error):
        return int(psutil.Process(pid).memory_full_info().pss)
    return 0


def connections(pid: int, broker: str) -> int:
    """A process's open TCP connections to the broker's port; 0 when the process is gone."""
    _, port = broker_address(broker)
    with contextlib.suppress(psutil.Error):
        links = psutil.Process(pid).net_connections(kind="tcp")
        return sum(link.status == psutil.CONN_ESTABLISHED and link.raddr.port == port for link in links)
    return 0
