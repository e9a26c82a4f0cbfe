"""``engine purge``: drop the messages waiting in queues."""

from __future__ import annotations

import click

from engine.cli.exit_codes import ExitCode
from engine.cli.queues import open_queues
from engine.cli.target import app_option, broker_option
from engine.errors import QueueNotFound


@click.command(epilog="Example: engine purge app:app -Q mail --yes")
@click.argument("app_word", metavar="[APP]", required=False)
@app_option
@broker_option
@click.option("-Q", "--queues", "names", metavar="A,B", help="Only these (default: the app's, else celery).")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def purge(
    app_word: str | None,
    app_path: str | None,
    broker: str | None,
    names: str | None,
    yes: bool,
    as_json: bool,
) -> int:
    """Drop the messages that wait in the queues; those being worked on stay. It cannot be undone."""
    transport, wanted, _dead = open_queues(app_word or app_path, broker, names)
    try:
        if not yes:
            click.confirm(f"Drop all messages waiting in {', '.join(wanted)}?", abort=True, err=True)
        dropped: dict[str, int] = {}
        held: dict[str, int] = {}
        missing: list[str] = []
        for name in wanted:
            try:
                dropped[name] = transport.purge(name)
                held[name] = transport.queue_state(name).unacked or 0
            except QueueNotFound:
                missing.append(name)
    finally:
        transport.close()
    if as_json:
        from engine.cli.output import print_json

        print_json({"dropped": dropped, "held": held, "missing": missing})
    else:
        for name, number in dropped.items():
            kept = f"; {held[name]:,} held by workers stay, and run" if held[name] else ""
            click.echo(f"{name}: {number:,} dropped{kept}")
    for name in missing:
        click.echo(f"engine: there is no queue {name!r}", err=True)
    return ExitCode.NOT_FOUND if missing else ExitCode.OK
