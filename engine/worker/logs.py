"""Log lines of the worker: one format for people, one for machines.

Rules
-----
* Arguments of tasks are never logged: they may hold what must not be in a log.
* Names and texts that come from messages are escaped, so that no message can forge a line or colour a screen.
* A line a task costs nothing when the level is above INFO: whoever logs asks once, not for every task.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

#: logged by the child for every task: its name and how it ended
TASK_LOGGER = "engine.task"
_FORMAT = "%(asctime)s %(levelname)-7s %(process)d %(message)s"
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
    """``time level pid message``; times are local with their offset."""

    default_msec_format = "%s,%03d"

    def __init__(self) -> None:
        super().__init__(_FORMAT)


def configure(level: str, json_logs: bool) -> None:
    """Send everything of that level to standard error. A root logger that has handlers already (the caller's
    own set-up) keeps them, and only the level of the engine's loggers is set."""
    number = logging.getLevelName(level.upper())
    if not isinstance(number, int):
        number = logging.INFO
    root = logging.getLogger()
    if not root.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonFormatter() if json_logs else LineFormatter())
        root.addHandler(handler)
        root.setLevel(number)
    logging.getLogger("engine").setLevel(number)


def clean_block(text: str, limit: int = 8000) -> str:
    """A text of several lines (a traceback): line ends stay, other control characters are escaped."""
    cut = text if len(text) <= limit else "…\n" + text[-limit:]
    return "\n".join(clean(line, limit) for line in cut.rstrip().split("\n"))
