"""Which app or broker a subcommand works on: the APP argument, ``-A`` as in Celery, ``--broker``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from engine.app import Engine

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

    app = load_app(app_path)
    if broker is not None:
        app.conf.update(broker_url=broker)
    app.load()
    return app
