"""``engine queues``: how full the queues are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from engine.cli.exit_codes import ExitCode
from engine.cli.target import app_option, broker_option, load, queue_names
from engine.errors import QueueNotFound

if TYPE_CHECKING:
    from engine.model import QueueState
    from engine.transport.base import Transport

DEFAULT_QUEUE = "celery"


@click.command(
    epilog="Example: engine queues app:app   or: engine queues --broker redis://localhost -Q celery,mail"
)
@click.argument("app_word", metavar="[APP]", required=False)
@app_option
@broker_option
@click.option("-Q", "--queues", "names", metavar="A,B", help="Only these (default: the app's, else celery).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def queues(
    app_word: str | None, app_path: str | None, broker: str | None, names: str | None, as_json: bool
) -> int:
    """Show ready, unacknowledged and delayed messages, consumers, and the age of the oldest message.

    Without -Q also the queues that hold dead letters, when there are any.
    A dash stands for what this broker does not tell. Exit status 4 when a queue does not exist.
    """
    transport, wanted, dead = open_queues(app_word or app_path, broker, names)
    try:
        states, missing = _states(transport, wanted)
        states += [state for state in _states(transport, dead)[0] if state.ready or state.unacked]
    finally:
        transport.close()
    if as_json:
        from engine.cli.output import print_json

        print_json({"queues": [asdict(state) for state in states], "missing": missing})
    elif states:
        _print_states(states)
    for name in missing:
        click.echo(
            f"engine: there is no queue {name!r} (a worker that reads it, or a task sent to it, makes it)",
            err=True,
        )
    return ExitCode.NOT_FOUND if missing else ExitCode.OK


def open_queues(
    app_path: str | None, broker: str | None, names: str | None
) -> tuple[Transport, list[str], list[str]]:
    """A connection to the app's or the given broker, the queues that are meant, and where their dead letters
    would be unless queues were named."""
    wanted = queue_names(names)
    if app_path is not None:
        app = load(app_path, broker)
        own = wanted or [spec.name for spec in app.topology.consume_specs(None)]
        dead = app.conf.worker_dead_letter_queue
        return app.open_transport(), own, [] if wanted else [dead] if dead else _dead(own)
    if broker is None:
        raise click.UsageError("whose queues? Give an app, or --broker URL")
    from engine.transport import open_transport

    return open_transport(broker), wanted or [DEFAULT_QUEUE], [] if wanted else _dead([DEFAULT_QUEUE])


def _dead(names: Iterable[str]) -> list[str]:
    return [f"{name}.dead" for name in names]


def _states(transport: Transport, names: Iterable[str]) -> tuple[list[QueueState], list[str]]:
    states, missing = [], []
    for name in names:
        try:
            states.append(transport.queue_state(name))
        except QueueNotFound:
            missing.append(name)
    return states, missing


def _print_states(states: list[QueueState]) -> None:
    from engine.cli.output import age, count, print_table

    print_table(
        ["queue", "ready", "unacked", "delayed", "consumers", "oldest"],
        [
            [
                state.name,
                count(state.ready),
                count(state.unacked),
                count(state.delayed),
                count(state.consumers),
                age(state.oldest_age_s),
            ]
            for state in states
        ],
    )
