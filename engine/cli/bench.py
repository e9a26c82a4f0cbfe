"""``engine bench``: how fast the engine is here, what it costs, and how that compares."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.bench.plan import RIVALS, WORKLOADS, Plan
from engine.cli.exit_codes import ExitCode
from engine.cli.output import print_json, print_table

if TYPE_CHECKING:
    from engine.bench.report import Change, Report


def _rivals(context: click.Context, option: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    """Names given one by one or with commas between; each once, in their order."""
    names = [name.strip() for text in given for name in text.split(",") if name.strip()]
    for name in names:
        if name not in RIVALS:
            raise click.BadParameter(f"{name!r} is not one of {', '.join(RIVALS)}")
    return tuple(dict.fromkeys(names))


@click.command(epilog="Example: engine bench consume --broker amqp://localhost -c 2 --against celery,raw")
@click.argument("workload", type=click.Choice(tuple(WORKLOADS)), default="all", metavar="[WORKLOAD]")
@click.option("-b", "--broker", default="", metavar="URL", help="Default: a new SQLite file.")
@click.option(
    "--tasks", type=click.IntRange(min=1), default=10_000, show_default=True, help="Counted tasks a run."
)
@click.option(
    "--warmup", type=click.IntRange(min=0), default=1_000, show_default=True, help="Tasks before them."
)
@click.option(
    "--runs", type=click.IntRange(min=1), default=3, show_default=True, help="Runs; the median is shown."
)
@click.option(
    "-c", "--concurrency", type=click.IntRange(min=1), default=1, show_default=True, help="Processes."
)
@click.option(
    "--batch", type=click.IntRange(min=1), default=1_000, show_default=True, help="For publish-many."
)
@click.option(
    "--payload", type=click.IntRange(min=0), default=0, show_default=True, help="Bytes added to a task."
)
@click.option("--confirm/--no-confirm", default=True, show_default=True, help="Publish with confirms.")
@click.option(
    "--lean/--full-headers", default=True, show_default=True, help="Leave out headers that say nothing."
)
@click.option("--queue-type", type=click.Choice(("classic", "quorum")), default="classic", show_default=True)
@click.option(
    "--scale",
    type=click.FloatRange(min=0, min_open=True),
    default=0.1,
    show_default=True,
    help="Length of sharing: 1 has tasks of up to 5 s; depth of growth: 1 has 1,000,000.",
)
@click.option(
    "--idle",
    "idle_s",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How long idle looks on.",
)
@click.option("--results", metavar="URL", help="Keep results there (default: results are off).")
@click.option(
    "--against",
    multiple=True,
    callback=_rivals,
    metavar="SIDE[,SIDE]",
    help=f"Run these in turn, and compare: {', '.join(RIVALS)} (what the broker can do by itself).",
)
@click.option("--worker-args", default="", metavar="TEXT", help="More arguments for `engine run`.")
@click.option("--celery-args", default="", metavar="TEXT", help="More arguments for `celery worker`.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--save", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write JSON there."
)
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Draw SVG there."
)
@click.option(
    "--compare", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Compare with it."
)
@click.option(
    "--fail-over",
    type=click.FloatRange(min=0),
    metavar="PERCENT",
    help="With --compare: exit with 1 when rate or median latency got worse by more.",
)
def bench(
    workload: str,
    against: tuple[str, ...],
    as_json: bool,
    save: Path | None,
    plot: Path | None,
    compare: Path | None,
    fail_over: float | None,
    **given: Any,
) -> int:
    """Measure WORKLOAD (default: all, which is the first six) with real worker processes.

    \b
    codec         write and read messages in memory (publisher: write, worker: read)
    publish       delay(), one task after the other
    publish-many  tasks in batches, their confirms in flight together
    consume       from a full queue, counted when tasks have ended
    roundtrip     one task at a time on an idle system: until it begins
    start         from the worker's start to the end of a task that waits
    sharing       makespan of five mixes of long and short tasks beside the ideal (sharing-a to -e)
    idle          memory, CPU and connections of a worker without tasks
    growth        cost of a task with 1,000 to 100,000 queued, with --scale 1 to 1,000,000
    growth-children, growth-queues, growth-tasks
                  the same with 1 to 64 processes, 50 queues, 10,000 registered tasks
    bodies        published and consumed: bodies of 100 bytes to 10 MB
    memory        of the largest process after 10 %, 50 % and all of the --tasks
    """
    if fail_over is not None and compare is None:
        raise click.UsageError("--fail-over needs --compare FILE")
    _check_folders(save, plot)
    from engine.bench import report as reports
    from engine.bench.runner import run
    from engine.bench.sides import BY_NAME

    earlier = reports.load(compare) if compare else None
    sides = [BY_NAME[name] for name in ("engine", *against)]
    with _progress() as progress:
        found = run(make_plan(given), WORKLOADS[workload], sides, progress)
    if save:
        found.save(save)
    if plot:
        from engine.bench.plot import plot as draw

        plot.write_text(draw(found), encoding="utf-8")
    changes = reports.compare(found, earlier) if earlier else []
    if as_json:
        print_json(
            {
                **found.to_dict(),
                "against": [
                    {"rival": rival, **_change(change)}
                    for rival in against
                    for change in reports.against(found, "engine", rival)
                ],
                "compared": list(map(_change, changes)),
            }
        )
    else:
        _print(found, against, changes)
    slower = [change for change in changes if fail_over is not None and change.worse_by(fail_over)]
    for change in slower:
        click.echo(
            f"engine: {change.workload}, {change.side}: {change.figure} is {change.ratio:.2f} times as good",
            err=True,
        )
    return ExitCode.FAILURE if slower else ExitCode.OK


def _check_folders(*files: Path | None) -> None:
    """A place that cannot be written to is told before the minutes that a bench takes."""
    for file in files:
        if file is not None and not os.access(file.parent, os.W_OK):
            raise click.UsageError(
                f"cannot write {file}: {file.parent} is not a folder that can be written to"
            )


def make_plan(given: dict[str, Any]) -> Plan:
    """The plan from the command line's options."""
    import shlex

    fields = {**given, **{name: tuple(shlex.split(given[name])) for name in ("worker_args", "celery_args")}}
    return Plan(**fields)


def _print(found: Report, rivals: tuple[str, ...], changes: list[Change]) -> None:
    from engine.bench import tables

    machine, asked = found.machine, found.parameters
    click.echo(f"{machine['cpu']}, {machine['cpus']} CPUs, {machine['system']}, {machine['python']}")
    click.echo(", ".join(f"{name} {version}" for name, version in found.versions.items()))
    click.echo(
        f"broker {asked['broker']}, {asked['concurrency']} processes, {asked['queue_type']} queue, "
        f"confirms {'on' if asked['confirm'] else 'off'}, {asked['runs']} runs: median (lowest–highest)"
    )
    for part in tables.tables(found.rows):
        print_table(*part, left=2)
    headings, beside = tables.rival_table(found, rivals)
    if beside:
        click.echo("In brackets: how many times better the engine's figure is.")
        print_table(headings, beside, left=2)
    if changes:
        print_table(
            *tables.change_table(changes, "before", "now"), left=3, title="compared with the saved run"
        )
    for note in found.notes:
        click.echo(f"* {note}")


def _change(change: Change) -> dict[str, Any]:
    return {
        "workload": change.workload,
        "side": change.side,
        "figure": change.figure,
        "before": change.before,
        "now": change.now,
        "better_by": round(change.ratio, 3),
    }


def _progress() -> Any:
    from engine.cli.progress import Bar

    return Bar()
