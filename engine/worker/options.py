"""What ``engine run`` was asked for: plain data that crosses every fork. None means: ask the app."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: Slots of the scoreboard; twice the concurrency must fit, since old and new children overlap.
MAX_CONCURRENCY = 500


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """The worker's options. What is None falls back to the app's own setting of that meaning."""

    concurrency: int | None = None  #: children; None: worker_concurrency, else the CPUs this process may use
    queues: tuple[str, ...] | None = None  #: None: task_queues, else the default queue
    hostname: str | None = None  #: ``name@host``; ``%h`` host, ``%n`` short host, ``%d`` domain
    loglevel: str = "INFO"
    json_logs: bool = False
    log_color: bool | None = None  #: None: on a terminal, unless NO_COLOR is set
    max_tasks_per_child: int | None = None
    max_memory_per_child_kib: int | None = None
    time_limit: float | None = None  #: hard, seconds
    soft_time_limit: float | None = None
    prefetch: int | None = None  #: None: found by measuring
    pidfile: str | None = None
    drain_deadline_s: float | None = None  #: a warm stop turns cold after this
    boot_deadline_s: float | None = None  #: a child that has not booted by then is killed
    soft_shutdown_s: float = 0.0  #: how long running tasks may go on after a cold stop was asked for
    deaf_after_s: float = 300.0  #: an idle child without a sign of life for so long is replaced
    max_boot_failures: int = 5  #: children dying at boot, one after the other, before the worker gives up
    max_crashes_per_task: int = 3  #: the crash that sends a task to the dead-letter queue
    on_event: Callable[[str, dict[str, Any]], None] | None = None  #: called in the supervisor; must not block

    def nodename(self) -> str:
        """The worker's ``name@host``, with Celery's ``%h %n %d`` expanded."""
        host = socket.gethostname()
        short, _, domain = host.partition(".")
        name = self.hostname or "engine@%h"
        for mark, text in (("%h", host), ("%n", short), ("%d", domain), ("%%", "%")):
            name = name.replace(mark, text)
        return name if "@" in name else f"{name}@{host}"
