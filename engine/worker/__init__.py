"""The worker: ``engine run``. A supervisor forks children, each with its own connection to the broker.

Rooms: `supervisor` (the loop), `generations`, `generation` and `template` (the app's code, loaded apart),
`children`, `quarantine`, `watchdog`, `mortician`, `stopping` (bookkeeping, verdicts), `lines`, `control` and
`scoreboard` (what children and supervisor tell each other), `revoking`, `revoked` and `statefile` (tasks
that must not run), `remote` (keeps the control child, which is `control_child`, `panel` and `greeting`); in
the children `child` (the loop), `intake` (what to do with a message), `execution` and `limits` (running it),
`settling` and `flusher` (storing and acknowledging it), `prefetch`.
"""

from __future__ import annotations

from engine.worker.options import MAX_CONCURRENCY, WorkerOptions

__all__ = ["WorkerOptions", "run_worker"]

_ENTRY = "engine.worker.entry"


def run_worker(app_path: str, options: WorkerOptions | None = None) -> int:
    """Run a worker until it is told to stop; its exit code (0: stopped in order).

    Args:
        app_path: ``module:attribute``, a module, or a file. It is imported in a process of its own.
        options: see `WorkerOptions`.
    """
    from engine.worker.generation import Generation
    from engine.worker.logs import configure
    from engine.worker.pidfile import pidfile
    from engine.worker.scoreboard import Scoreboard

    options = options or WorkerOptions()
    configure(options.loglevel, options.json_logs, options.log_color)
    with pidfile(options.pidfile):
        scoreboard = Scoreboard(2 * MAX_CONCURRENCY + 2)
        first = Generation.fork(1, app_path, options, scoreboard, _ENTRY, ())
        from engine.worker.supervisor import Supervisor  # while the template imports the app

        return Supervisor(app_path, options, _ENTRY, scoreboard, first).run()
