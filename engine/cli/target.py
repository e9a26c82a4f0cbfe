"""Which app or broker a subcommand works on: the APP argument, ``-A`` as in Celery, ``--broker``."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from engine.cli.output import plain
from engine.errors import ConfigurationError, EngineError
from engine.masking import mask_text

if TYPE_CHECKING:
    from engine.app import Engine

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep

_Command = TypeVar("_Command", bound=Callable[..., Any])

APP_HELP = "The app: module:attribute, a module, or a file. The same as the APP argument."


def app_option(command: _Command) -> _Command:
    """``-A/--app``, for those who are used to Celery."""
    return click.option("-A", "--app", "app_path", metavar="APP", help=APP_HELP)(command)


def broker_option(command: _Command) -> _Command:
    """``-b/--broker``."""
    return click.option(
        "-b", "--broker", metavar="URL", help="Use this broker instead of the app's, e.g. amqp://, redis://."
    )(command)


def split_app(words: tuple[str, ...], app_path: str | None, wanted: str) -> tuple[str, list[str]]:
    """The app and the words after it: the first word is the app unless ``-A`` gave it."""
    rest = list(words)
    if app_path is None:
        if not rest:
            raise click.UsageError(f"which app? Say e.g. `{wanted}` (module:attribute, a module, or a file)")
        app_path = rest.pop(0)
    return app_path, rest


def load(app_path: str, broker: str | None = None) -> Engine:
    """The app, with its task modules imported, talking to ``broker`` if one is given."""
    from engine.loader import load_app

    with _users_errors(app_path):
        app = load_app(app_path)
        if broker is not None:
            app.conf.update(broker_url=broker)
        app.load()
    return app


@contextmanager
def _users_errors(app_path: str) -> Iterator[None]:
    """What the user's own modules raise: its traceback without our frames, and one line."""
    try:
        yield
    except EngineError:
        raise
    except SystemExit as error:
        raise ConfigurationError(
            f"cannot import {app_path!r}: it calls sys.exit({error.code!r}) when it is imported"
        ) from error
    except Exception as error:
        if os.environ.get("ENGINE_DEBUG") == "1":
            raise
        click.echo(mask_text(plain(users_traceback(error))), err=True, nl=False)
        raise ConfigurationError(f"cannot import {app_path!r}: {type(error).__name__}: {error}") from error


def users_traceback(error: BaseException) -> str:
    """The traceback from the first frame on that is neither of this package nor of importlib."""
    trace = error.__traceback__
    while trace is not None and _is_ours(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error.with_traceback(trace), trace))


def _is_ours(file: str) -> bool:
    return file.startswith((_PACKAGE, "<frozen importlib")) or "/importlib/" in file


def queue_names(text: str | None) -> list[str]:
    """The names in ``-Q a,b``; none when it was not given."""
    names = [name.strip() for name in (text or "").split(",") if name.strip()]
    if text is not None and not names:
        raise click.UsageError("-Q names no queue: leave it out, or say e.g. -Q celery,mail")
    return names


class Seconds(click.FloatRange):
    """A number of seconds within bounds. nan is within none of them, though it compares as if it was."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        seconds = super().convert(value, param, ctx)
        if seconds != seconds:
            self.fail("nan is no number of seconds", param, ctx)
        return seconds
