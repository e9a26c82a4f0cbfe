"""What a starting worker says of itself: once, in a few lines, without a password."""

from __future__ import annotations

import logging
from typing import Any

from engine.worker.logs import clean
from engine.worker.options import WorkerOptions

log = logging.getLogger("engine.worker")

_TASKS_SHOWN = 10


def banner(info: dict[str, Any], options: WorkerOptions, pid: int) -> list[str]:
    """The lines. ``info`` is what the template told: see `engine.worker.entry.describe`."""
    names = info.get("tasks", [])
    count = info.get("task_count", len(names))
    shown = ", ".join(clean(name) for name in names[:_TASKS_SHOWN])
    more = f" and {count - _TASKS_SHOWN} more" if count > _TASKS_SHOWN else ""
    queues = ", ".join(clean(name) for name in info.get("queues", []))
    return [
        f"engine {info.get('version', '?')} worker {options.nodename()} (pid {pid})",
        f"  app      {info.get('app', '?')}",
        f"  broker   {info.get('broker', '?')}",
        f"  results  {info.get('results') or 'none'}",
        f"  queues   {queues}",
        f"  children {options.concurrency}",
        f"  tasks    {count}: {shown}{more}" if count else "  tasks    none: is the right module named?",
    ]


def log_banner(info: dict[str, Any], options: WorkerOptions, pid: int) -> None:
    """Log the banner at INFO, and what the template warned of at WARNING."""
    for line in banner(info, options, pid):
        log.info("%s", line)
    for warning in info.get("warnings", ()):
        log.warning("%s", warning)
