"""What the command's exit status means. Documented in docs/cli.md; scripts rely on it.

======  =========================================================================
0       done
1       it ran, and failed: the task failed, totals differ, too slow
2       used wrongly: an argument, an app, a setting, an extra that is missing
3       the broker or the result store cannot be reached
4       not found: a queue, a task name, a result
5       no result within the time given
130     interrupted from the keyboard
======  =========================================================================
"""

from __future__ import annotations

from enum import IntEnum

from engine.errors import (
    AccessRefused,
    ConfigurationError,
    ConnectionFailed,
    ConnectionLost,
    EngineError,
    NotRegistered,
    QueueNotFound,
    ResultsDisabled,
    ResultTimeout,
)


class ExitCode(IntEnum):
    """The exit statuses of every subcommand."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_FOUND = 4
    TIMEOUT = 5
    INTERRUPTED = 130


_BY_ERROR: tuple[tuple[type[EngineError], ExitCode], ...] = (
    (ConfigurationError, ExitCode.USAGE),
    (ResultsDisabled, ExitCode.USAGE),
    (ConnectionFailed, ExitCode.UNREACHABLE),
    (ConnectionLost, ExitCode.UNREACHABLE),
    (QueueNotFound, ExitCode.NOT_FOUND),
    (NotRegistered, ExitCode.NOT_FOUND),
    (ResultTimeout, ExitCode.TIMEOUT),
)

_HINTS: tuple[tuple[type[EngineError], str], ...] = (
    (AccessRefused, "check user, password and virtual host in the broker URL"),
    (
        ConnectionFailed,
        "broker_url, ENGINE_BROKER_URL or --broker says where it is; docs/brokers.md tells of all",
    ),
    (QueueNotFound, "a queue comes into being when a worker reads it or a task is sent to it"),
)


def exit_code_for(error: EngineError) -> ExitCode:
    """The status a subcommand that raised ``error`` ends with."""
    return next((code for kind, code in _BY_ERROR if isinstance(error, kind)), ExitCode.FAILURE)


def error_line(error: EngineError) -> str:
    """What went wrong and what to do, in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    hint = next((hint for kind, hint in _HINTS if isinstance(error, kind)), None)
    return f"{text} ({hint})" if hint else text
