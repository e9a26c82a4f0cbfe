"""Log lines of the worker: one format for people, one for machines.

Rules
-----
* Arguments of tasks are never logged: they may hold what must not be in a log.
* Names and texts that come from messages are escaped, so that no message can forge a line or colour a screen.
* A line a task costs nothing when the level is above INFO: whoever logs asks once, not for every task.
* The worker's handler is on the root logger before the app is known. For the app's import it steps back, so
  that ``logging.basicConfig`` there has its say; afterwards `take_over` decides whose set-up stays.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import sys
import time
from typing import Any, TextIO

from engine.errors import ConfigurationError

#: logged by the child for every task: its name and how it ended
TASK_LOGGER = "engine.task"
#: what tasks print, see `engine.worker.redirect`
REDIRECTED_LOGGER = "engine.redirected"
#: of lines for people
LINE_FORMAT = "%(asctime)s %(levelname)-7s %(process)d %(message)s"
_UNSAFE = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
_UNSAFE[0x2028] = "\\u2028"
_UNSAFE[0x2029] = "\\u2029"
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def clean(text: str, limit: int = 200) -> str:
    """A text from outside as it may stand in a log line: no control characters, bounded."""
    cleaned = text if text.isprintable() else text.translate(_UNSAFE)
    return cleaned if len(cleaned) <= limit else cleaned[: limit - 1] + "…"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC, RFC 3339), level, logger, pid, message, and what ``extra`` adds."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry: dict[str, Any] = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        extra = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        return json.dumps({**entry, **extra}, default=str, ensure_ascii=False)


class LineFormatter(logging.Formatter):
    """``time level pid message``; times are local with their offset. ``colored``: the level has a colour."""

    default_msec_format = "%s,%03d"

    def __init__(self, colored: bool = False) -> None:
        super().__init__(LINE_FORMAT)
        self.colored = colored

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        line = super().formatMessage(record)
        color = _COLORS.get(record.levelno) if self.colored else None
        if color is None:
            return line
        return line.replace(f" {record.levelname}", f" {color}{record.levelname}{_PLAIN}", 1)


_COLORS = {
    logging.DEBUG: "\x1b[34m",
    logging.WARNING: "\x1b[33m",
    logging.ERROR: "\x1b[31m",
    logging.CRITICAL: "\x1b[35m",
}
_PLAIN = "\x1b[0m"


class _WorkersLevel(int):
    """A level that the worker gave the root logger: an app that sets one replaces it by a plain number."""


_LAST_RESORT = logging.lastResort
_handler: logging.Handler | None = None  #: the worker's own, unless the caller's set-up is used
_level = _WorkersLevel(logging.INFO)


def configure(level: str, json_logs: bool, color: bool | None = None) -> None:
    """Send everything of that level to standard error. A root logger that has handlers already (the caller's
    own set-up) keeps them, and only the level of the engine's loggers is set."""
    global _handler, _level
    number = logging.getLevelName(level.upper())
    if not isinstance(number, int):
        number = logging.INFO
    root = logging.getLogger()
    if not root.handlers or root.handlers == [_handler]:
        handler = logging.StreamHandler(_own_stderr())
        handler.setFormatter(JsonFormatter() if json_logs else LineFormatter(wants_color(color, sys.stderr)))
        root.handlers = [handler]
        _handler, _level = handler, _WorkersLevel(number)
        root.setLevel(_level)
    else:
        _handler = None
    logging.getLogger("engine").setLevel(number)


def _own_stderr() -> TextIO:
    """Standard error, on a descriptor of the log's own: a task may close ``sys.stderr``, or descriptor 2,
    which the next file that is opened would get."""
    try:
        fd = fcntl.fcntl(sys.stderr.fileno(), fcntl.F_DUPFD_CLOEXEC, 3)
    except (OSError, ValueError, AttributeError):  # a stream without a file
        return sys.stderr
    return open(fd, "w", encoding=sys.stderr.encoding, errors="backslashreplace")


def set_color(color: bool | None) -> None:
    """Do as ``worker_log_color`` says, in a process that has logged without knowing it."""
    formatter = _handler.formatter if _handler is not None else None
    if isinstance(formatter, LineFormatter) and isinstance(_handler, logging.StreamHandler):
        formatter.colored = wants_color(color, _handler.stream)


def wants_color(color: bool | None, stream: TextIO) -> bool:
    """Only on a terminal. None: unless the environment has ``NO_COLOR``."""
    if color is False or (color is None and os.environ.get("NO_COLOR")):
        return False
    return bool(stream is not None and stream.isatty())


def step_back() -> None:
    """Before the app is imported: the root logger looks untouched; lines logged meanwhile still come out."""
    root = logging.getLogger()
    if _handler is not None and root.handlers == [_handler]:
        root.handlers = []
        logging.lastResort = _handler


def take_over(hijack: bool) -> None:
    """After the import. ``hijack``: whatever the app set up gives way to the worker's handler, as in Celery;
    else the app's set-up stays, and the worker's handler comes back only where there is none. The engine's
    loggers, which ``dictConfig`` disables by default, are heard again in both cases."""
    root, engine = logging.getLogger(), logging.getLogger("engine")
    for name, logger in root.manager.loggerDict.items():
        if isinstance(logger, logging.Logger) and (name == "engine" or name.startswith("engine.")):
            logger.disabled = False
            if hijack and _handler is not None:
                logger.handlers, logger.propagate = [], True
    if _handler is None:  # the caller's set-up was there first
        return
    logging.lastResort = _LAST_RESORT
    if hijack or not root.handlers:
        root.handlers = [_handler]
        root.setLevel(_level)
        engine.setLevel(_level)
    elif isinstance(root.level, _WorkersLevel):  # the app left it open: logging's own default
        root.setLevel(logging.WARNING)


def level_number(name: str, setting: str) -> int:
    """The level of that name. Raises ConfigurationError that names the setting."""
    number = int(name) if name.isdigit() else logging.getLevelName(name.strip().upper())
    if not isinstance(number, int):
        raise ConfigurationError(f"{setting} is DEBUG, INFO, WARNING, ERROR or CRITICAL, not {name!r}")
    return number


def clean_block(text: str, limit: int = 8000) -> str:
    """A text of several lines (a traceback): line ends stay, other control characters are escaped."""
    cut = text if len(text) <= limit else "…\n" + text[-limit:]
    return "\n".join(clean(line, limit) for line in cut.rstrip().split("\n"))
