"""``engine run``: start a worker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from engine.cli.target import Seconds, app_option, queue_names, split_app

if TYPE_CHECKING:
    from engine.worker.options import WorkerOptions

LEVELS = ("debug", "info", "warning", "error", "critical")


def _no_broker(_ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value is not None:
        raise click.UsageError(
            "a worker takes its broker from the app: set broker_url, or ENGINE_BROKER_URL if the app has none"
        )


@click.command(epilog="Example: engine run app:app --concurrency 4 --queues celery,mail")
@click.argument("words", metavar="APP", nargs=-1)
@app_option
@click.option(
    "-c", "--concurrency", type=click.IntRange(min=1), metavar="N", help="Processes (default: CPUs)."
)
@click.option("-Q", "--queues", metavar="A,B", help="Queues to read (default: the app's).")
@click.option("-b", "--broker", hidden=True, expose_value=False, callback=_no_broker)
@click.option("-n", "--hostname", metavar="NAME", help="This worker's name, e.g. mail@%h.")
@click.option(
    "-l", "--loglevel", type=click.Choice(LEVELS, case_sensitive=False), default="info", show_default=True
)
@click.option("--json-logs", is_flag=True, help="Log one JSON object a line.")
@click.option(
    "--prefetch", type=click.IntRange(min=1), metavar="N", help="Messages a process holds (default: adapts)."
)
@click.option(
    "--max-tasks-per-child", type=click.IntRange(min=1), metavar="N", help="Replace a process after N tasks."
)
@click.option(
    "--max-memory-per-child",
    type=click.IntRange(min=1),
    metavar="KIB",
    help="Replace a process above so many KiB.",
)
@click.option("--time-limit", type=Seconds(min=0, min_open=True), metavar="S", help="Kill a task after S.")
@click.option(
    "--soft-time-limit",
    type=Seconds(min=0, min_open=True),
    metavar="S",
    help="Raise SoftTimeLimitExceeded in a task after S.",
)
@click.option(
    "--drain-deadline",
    type=Seconds(min=0),
    metavar="S",
    help="At shutdown, how long running tasks may take to end.",
)
@click.option(
    "--pidfile", type=click.Path(dir_okay=False), metavar="FILE", help="Write the process id there."
)
def run(words: tuple[str, ...], app_path: str | None, **given: Any) -> int:
    """Start a worker for APP: a supervisor and its processes.

    APP is module:attribute, a module that holds one Engine, or a file. The current folder can be imported.
    Ctrl-C or SIGTERM lets running tasks end; a second Ctrl-C, or SIGQUIT, stops at once (a second SIGTERM
    changes nothing). The broker is the app's, which ENGINE_BROKER_URL sets for an app that names none.
    """
    app, rest = split_app(words, app_path, "engine run app:app")
    if rest:
        raise click.UsageError(f"one app at a time; what is {rest[0]!r}?")
    from engine.worker import run_worker

    return run_worker(app, worker_options(given))


def worker_options(given: Mapping[str, Any]) -> WorkerOptions:
    """The worker's options from the command line's; what was not given is left to the app's settings."""
    from engine.worker.options import MAX_CONCURRENCY, WorkerOptions

    if (given["concurrency"] or 0) > MAX_CONCURRENCY:
        raise click.UsageError(
            f"--concurrency can be {MAX_CONCURRENCY} at most; start a second worker for more"
        )
    soft, hard = given["soft_time_limit"], given["time_limit"]
    if soft is not None and hard is not None and soft >= hard:
        raise click.UsageError(f"--soft-time-limit ({soft:g}) must be below --time-limit ({hard:g})")
    queues = tuple(queue_names(given["queues"]))
    return WorkerOptions(
        concurrency=given["concurrency"],
        queues=queues or None,
        hostname=given["hostname"],
        loglevel=given["loglevel"].upper(),
        json_logs=given["json_logs"],
        max_tasks_per_child=given["max_tasks_per_child"],
        max_memory_per_child_kib=given["max_memory_per_child"],
        time_limit=hard,
        soft_time_limit=soft,
        prefetch=given["prefetch"],
        pidfile=given["pidfile"],
        drain_deadline_s=given["drain_deadline"],
    )
