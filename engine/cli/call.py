"""``engine call``: send a task, and wait for its result if asked to."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any

import click

from engine.cli.exit_codes import ExitCode
from engine.cli.output import plain
from engine.cli.target import Seconds, app_option, broker_option, load, queue_names, split_app
from engine.errors import ConfigurationError, NotRegistered

if TYPE_CHECKING:
    from engine.app import Engine
    from engine.async_result import AsyncResult


_NUMBER = re.compile(r"-(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")


class _CallCommand(click.Command):
    """Takes ``-1`` for an argument of the task; other words with a dash that are no options are refused."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.ignore_unknown_options = True
        free = args[args.index("--") + 1 :] if "--" in args else []
        rest = super().parse_args(ctx, args)
        for word in ctx.params.get("words") or ():
            if word[:1] == "-" and len(word) > 1 and not _NUMBER.fullmatch(word) and word not in free:
                near = difflib.get_close_matches(word, [name for p in self.params for name in p.opts], n=1)
                hint = f"did you mean {near[0]}?" if near else "an argument that begins with - goes after --"
                raise click.NoSuchOption(word, f"no option {word}: {hint}", ctx=ctx)
        return rest


@click.command(
    cls=_CallCommand,
    epilog="Example: engine call app:app app.add 2 3 --wait --timeout 10",
)
@click.argument("words", metavar="APP TASK [ARGUMENT]...", nargs=-1)
@app_option
@broker_option
@click.option("-a", "--args", "args_json", metavar="JSON", help="All positional arguments, as a JSON list.")
@click.option("-k", "--kwargs", "kwargs_json", metavar="JSON", help="Keyword arguments, as a JSON object.")
@click.option("-w", "--wait", is_flag=True, help="Wait for the result and print it.")
@click.option("--timeout", type=Seconds(min=0), default=60.0, show_default=True, help="Seconds to wait.")
@click.option("-Q", "--queue", metavar="NAME", help="Send it to this queue.")
@click.option("--countdown", type=Seconds(min=0), metavar="S", help="Run it after S seconds.")
@click.option("--task-id", metavar="ID", help="Use this id.")
@click.option("--force", is_flag=True, help="Send it although the app does not know a task of that name.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def call(
    words: tuple[str, ...],
    app_path: str | None,
    broker: str | None,
    args_json: str | None,
    kwargs_json: str | None,
    wait: bool,
    timeout: float,
    force: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Send TASK to the workers of APP; print its id.

    Each ARGUMENT is JSON where it can be read as such, else text: 2, '[1, 2]', true, hello.
    """
    path, rest = split_app(words, app_path, "engine call app:app app.add 2 3")
    if not rest:
        raise click.UsageError("which task? Say e.g. `engine call app:app app.add 2 3`")
    name, arguments = rest[0], [_loose_json(word) for word in rest[1:]]
    if args_json is not None:
        if arguments:
            raise click.UsageError("give the arguments either one by one or with --args, not both")
        arguments = _json(args_json, "--args", list)
    keywords = _json(kwargs_json, "--kwargs", dict) if kwargs_json is not None else {}
    app = load(path, broker)
    if wait:
        _ = app.results  # raises ResultsDisabled before anything is sent
    if options["queue"] is not None:
        options["queue"] = queue_names(options["queue"])[0]
    given = {key: value for key, value in options.items() if value is not None}
    try:
        pending = _send(app, name, arguments, keywords, given, force)
    except TypeError as error:  # arguments that the task does not take
        raise ConfigurationError(f"{name}: {error}") from None
    if not wait:
        _print_sent(pending.id, name, as_json)
        return ExitCode.OK
    from engine.cli.result import show_when_ready

    return show_when_ready(app, pending.id, timeout, as_json)


def _loose_json(word: str) -> Any:
    try:
        return _parse(word)
    except ValueError:
        return word


def _json(text: str, option: str, wanted: type) -> Any:
    try:
        value = _parse(text)
    except ValueError as error:
        raise click.UsageError(f"{option} is not JSON: {error}") from None
    if not isinstance(value, wanted):
        shape = "a list, e.g. '[2, 3]'" if wanted is list else """an object, e.g. '{"x": 2}'"""
        raise click.UsageError(f"{option} must be {shape}")
    return value


def _parse(text: str) -> Any:
    import json

    return json.loads(text)


def _send(
    app: Engine, name: str, args: list[Any], kwargs: dict[str, Any], options: dict[str, Any], force: bool
) -> AsyncResult[Any]:
    if force and name not in app.tasks:
        return app.send_task(name, args=args, kwargs=kwargs, **options)
    try:
        return app.find_task(name).apply_async(args, kwargs, **options)
    except NotRegistered as error:
        raise NotRegistered(f"{error}; --force sends it anyhow") from None


def _print_sent(task_id: str, name: str, as_json: bool) -> None:
    if as_json:
        from engine.cli.output import print_json

        print_json({"task_id": task_id, "task": name, "state": "PENDING"})
    else:
        click.echo(plain(task_id))
