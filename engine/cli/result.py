"""``engine result``: a task's state and result, now or when it is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from engine.cli.exit_codes import ExitCode
from engine.cli.output import plain, printable
from engine.cli.target import Seconds, app_option, broker_option, load, split_app
from engine.errors import ResultTimeout

if TYPE_CHECKING:
    from engine.app import Engine
    from engine.results.base import ResultMeta


@click.command(epilog="Example: engine result app:app 1f3870be-274f-46b6-a5ab-d3b4c6e3a0a4 --wait")
@click.argument("words", metavar="APP ID", nargs=-1)
@app_option
@broker_option
@click.option("-w", "--wait", is_flag=True, help="Wait until the task has ended.")
@click.option("--timeout", type=Seconds(min=0), default=60.0, show_default=True, help="Seconds to wait.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: state, result, traceback and the rest.")
def result(
    words: tuple[str, ...],
    app_path: str | None,
    broker: str | None,
    wait: bool,
    timeout: float,
    as_json: bool,
) -> int:
    """Show the result of the task with ID.

    Exit status: 0 it succeeded, 1 it failed or was revoked, 4 there is no result (yet), 5 none came in time.
    """
    path, rest = split_app(words, app_path, "engine result app:app ID")
    if len(rest) != 1:
        raise click.UsageError("give the id of one task, e.g. `engine result app:app ID`")
    app = load(path, broker)
    if wait:
        return show_when_ready(app, rest[0], timeout, as_json)
    meta = app.results.get(rest[0])
    if meta is None:
        _show_none(rest[0], None, as_json)
        click.echo(
            f"engine: no result for {plain(rest[0])}: not begun, not known, or expired (--wait waits)",
            err=True,
        )
        return ExitCode.NOT_FOUND
    return show(meta, as_json)


def show_when_ready(app: Engine, task_id: str, timeout: float, as_json: bool) -> int:
    """Wait for a result and print it; the exit status. Raises ResultTimeout."""
    meta = app.results.wait(task_id, timeout)
    if meta is None:
        _show_none(task_id, app.results.get(task_id), as_json)
        raise ResultTimeout(f"no result for {task_id} within {timeout:g} s: is a worker reading its queue?")
    return show(meta, as_json)


def _show_none(task_id: str, meta: ResultMeta | None, as_json: bool) -> None:
    """For a script: the id and where it stands, in the shape of a result."""
    if as_json:
        from engine.cli.output import print_json
        from engine.results.base import ResultMeta as Meta

        print_json((meta or Meta(task_id, "PENDING")).to_wire())


def show(meta: ResultMeta, as_json: bool) -> int:
    """Print one result; the exit status."""
    from engine.results.base import PROPAGATE_STATES

    failed = meta.status in PROPAGATE_STATES
    if as_json:
        from engine.cli.output import print_json

        print_json(meta.to_wire())
    elif failed:
        click.echo(plain(f"{meta.status}: {_error(meta.result)}"), err=True)
        if meta.traceback:
            click.echo(plain(str(meta.traceback).rstrip()), err=True)
    elif meta.status == "SUCCESS":
        click.echo(printable(_text(meta.result)))
    else:
        click.echo(plain(meta.status))
    return ExitCode.FAILURE if failed else ExitCode.OK


def _error(stored: Any) -> str:
    if isinstance(stored, dict) and "exc_type" in stored:
        from engine.errors import TaskFailed

        return str(TaskFailed(stored["exc_type"], stored.get("exc_message"), stored.get("exc_module")))
    return str(stored)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    import json

    return json.dumps(value, ensure_ascii=False, default=str)
