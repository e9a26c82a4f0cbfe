"""Why an app could not be loaded or a child cannot go on, in words for its user.

An error that the engine raises on purpose is one line; any other is shown as Python would, without the frames
that are the engine's or the import system's. ``ENGINE_DEBUG=1`` shows all of it.
"""

from __future__ import annotations

import os
import traceback
from pathlib import Path

from engine.errors import AccessRefused, EngineError

_MOST = 16_000
_OURS = str(Path(__file__).resolve().parents[1]) + os.sep
_IMPORTING = ("<frozen importlib", "<frozen runpy", os.path.join("importlib", "__init__.py"))


def failure_text(error: BaseException) -> str:
    """One line, or a traceback; at most 16 000 characters, the end of it."""
    told = traceback.TracebackException.from_exception(error)
    if os.environ.get("ENGINE_DEBUG") != "1":
        places = _users(told.stack)
        if isinstance(error, EngineError):
            return _line(error, places)
        if places or isinstance(error, SyntaxError):  # else it is a fault of ours
            _clear(told)
    return "".join(told.format()).rstrip()[-_MOST:]


def _line(error: EngineError, places: list[traceback.FrameSummary]) -> str:
    text = str(error)
    if isinstance(error, AccessRefused):
        text += " (check user, password and virtual host in the broker URL)"
    if places:
        text += f" ({places[-1].filename}, line {places[-1].lineno})"
    return text


def _clear(told: traceback.TracebackException | None) -> None:
    """Only the user's frames; also of the errors it came from."""
    while told is not None:
        told.stack[:] = _users(told.stack)
        told = told.__cause__ or told.__context__


def _users(stack: traceback.StackSummary) -> list[traceback.FrameSummary]:
    return [frame for frame in stack if not _is_ours(frame.filename)]


def _is_ours(filename: str) -> bool:
    return filename.startswith((_OURS, *_IMPORTING[:2])) or filename.endswith(_IMPORTING[2])
