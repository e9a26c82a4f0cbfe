"""All of the ``engine`` command: finds the subcommand, turns errors into one clear line and an exit status.

Rules: a subcommand's module is imported only when it is called; whatever the engine raises on purpose is
told in one line on stderr, never as a traceback (``ENGINE_DEBUG=1`` shows that too); data goes to stdout,
all else to stderr.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from engine.cli.exit_codes import ExitCode, error_line, exit_code_for
from engine.errors import EngineError

#: Subcommand: where it is, and its line in ``engine --help`` (kept here so that help imports none of them).
COMMANDS = {
    "run": ("engine.cli.run:run", "Start a worker."),
    "call": ("engine.cli.call:call", "Send a task, and wait for its result if asked to."),
    "result": ("engine.cli.result:result", "Show a task's state and result."),
    "queues": ("engine.cli.queues:queues", "Show how full the queues are."),
    "purge": ("engine.cli.purge:purge", "Drop the messages waiting in queues."),
    "report": ("engine.cli.report:report", "Show versions, platform and settings, for a bug report."),
    "demo": ("engine.cli.demo:demo", "Count the words of a folder in four processes; needs no server."),
    "bench": ("engine.cli.bench:bench", "Measure throughput, latency and CPU a task."),
}


class LazyGroup(click.Group):
    """A group that imports a subcommand when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        try:
            module, _, name = COMMANDS[cmd_name][0].partition(":")
        except KeyError:
            return None
        command: click.Command = getattr(import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            near = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(COMMANDS)}"
            raise click.UsageError(f"no subcommand {name!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


def _print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    from engine import __version__

    click.echo(f"engine {__version__}")
    ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """Run background tasks: a worker that speaks Celery's protocol.

    \b
    engine demo                        try it, without a server
    engine run app:app -c 4            start a worker for the app in app.py
    engine call app:app app.add 2 3 --wait
    """


def run_command(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; its exit status."""
    try:
        status = cli.main(
            None if arguments is None else list(arguments), prog_name="engine", standalone_mode=False
        )
    except click.ClickException as error:
        error.show()
        return ExitCode.USAGE if isinstance(error, click.UsageError) else ExitCode.FAILURE
    except (click.Abort, KeyboardInterrupt, EngineError, OSError) as error:
        return status_of(error)
    return int(status or ExitCode.OK)


def status_of(error: BaseException) -> int:
    """Tell what ended a subcommand; the exit status."""
    if isinstance(error, (click.Abort, KeyboardInterrupt)):
        click.echo("engine: interrupted", err=True)
        return ExitCode.INTERRUPTED
    if isinstance(error, BrokenPipeError):  # `engine queues | head`
        _let_go_of_stdout()
        return ExitCode.OK
    if os.environ.get("ENGINE_DEBUG") == "1":
        raise error
    if isinstance(error, EngineError):
        from engine.cli.output import plain
        from engine.masking import mask_text

        click.echo(f"engine: {plain(mask_text(error_line(error)))}", err=True)
        return exit_code_for(error)
    if isinstance(error, OSError):  # a full disk behind stdout, most of all
        _let_go_of_stdout()
        where = f" {error.filename}" if error.filename else ""
        click.echo(f"engine: cannot write or read{where}: {error.strerror or error}", err=True)
        return ExitCode.FAILURE
    raise error


def _let_go_of_stdout() -> None:
    """The interpreter flushes stdout at its end, and what could not be written then still could not be."""
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - open until the process ends
