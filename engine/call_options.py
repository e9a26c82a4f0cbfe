"""The options of a call, checked before anything is sent: what a worker could not read is refused here.

Rules: one clear error that names the option, on every broker the same; options nobody knows pass, as in
Celery, but not those that look like a known one misspelled. Calls without options never come here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from numbers import Real
from typing import Any

from engine.errors import ConfigurationError

#: RabbitMQ's range, for all brokers; SQLite and Redis have ten steps and take what is above 9 as 9
HIGHEST_PRIORITY = 255
_LONGEST_S = 100 * 365.25 * 86_400.0


def check_options(options: Mapping[str, Any], known: Collection[str]) -> None:
    """``known`` are the options that need no check. Raises TypeError for a value of a wrong type and for a
    misspelled name, ConfigurationError for a value out of range."""
    for name, value in options.items():
        check = _CHECKS.get(name)
        if check is not None:
            if value is not None:
                check(name, value)
        elif name not in known and name not in (options.get("stamped_headers") or ()):
            _refuse_misspelled(name, known)


def check_name(name: object) -> None:
    """A task is sent by its name, a string that is not empty."""
    if not isinstance(name, str):
        raise TypeError(f"a task's name is a string, not {_kind(name)}")
    if not name:
        raise ConfigurationError("a task's name is empty: say which task is to run")


def checked_id(task_id: object) -> str:
    """The id itself. Raises TypeError when it is no string."""
    if not isinstance(task_id, str):
        raise TypeError(f"task_id is a string, not {_kind(task_id)}")
    return task_id


def check_priority(name: str, value: object) -> None:
    whole = _whole(name, value)
    if whole > HIGHEST_PRIORITY:
        raise ConfigurationError(f"{name} is a whole number from 0 to {HIGHEST_PRIORITY}, not {whole}")


def check_timeout(value: object) -> None:
    """Seconds to wait: None, or a number that is one."""
    if value is not None:
        _number("timeout", value)
        if value != value:
            raise ConfigurationError("timeout is nan: give seconds, or None to wait for ever")


def _kind(value: object) -> str:
    return type(value).__name__


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} is a number of seconds, not {_kind(value)}")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _seconds(name: str, value: object) -> None:
    seconds = _number(name, value)
    if not 0 <= seconds < math.inf:
        raise ConfigurationError(f"{name} is a number of seconds from 0 on, not {seconds:g}")


def _span(name: str, value: object) -> None:
    """A time from now, in seconds; a past one is over at once."""
    seconds = _number(name, value)
    if not -_LONGEST_S <= seconds <= _LONGEST_S:  # neither is nan
        raise ConfigurationError(f"{name} is a number of seconds, 100 years at most, not {seconds:g}")


def _expires(name: str, value: object) -> None:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    elif isinstance(value, (datetime, str)):
        return  # read where the message is made
    elif isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} is a number of seconds, a datetime or ISO 8601 text, not {_kind(value)}")
    _span(name, value)


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is a whole number, not {value!r:.40}")
    if value < 0:
        raise ConfigurationError(f"{name} is a whole number from 0 on, not {value}")
    return value


def _count(name: str, value: object) -> None:
    _whole(name, value)


def _text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} is a string, not {_kind(value)}")


def _mapping(name: str, value: object) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} is a mapping, not {_kind(value)}")
    for key in value:
        if not isinstance(key, str):
            raise TypeError(f"{name} has strings as keys, not {_kind(key)}")


def _signature(name: str, value: object) -> None:
    if not isinstance(value, Mapping) or not isinstance(value.get("task"), str):
        raise TypeError(f"{name} takes a signature, such as task.s(), not {_kind(value)}")


def _signatures(name: str, value: object) -> None:
    for item in value if isinstance(value, (list, tuple)) else (value,):
        _signature(name, item)


def _chain(name: str, value: object) -> None:
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{name} is a list of signatures, not {_kind(value)}")
    _signatures(name, value)


def _queue(name: str, value: object) -> None:
    if not isinstance(value, str) and not (hasattr(value, "name") and hasattr(value, "bindings")):
        raise TypeError(f"{name} is a queue's name or a Queue, not {_kind(value)}")


def _exchange(name: str, value: object) -> None:
    if not isinstance(value, str) and not (hasattr(value, "name") and hasattr(value, "type")):
        raise TypeError(f"{name} is an exchange's name or an Exchange, not {_kind(value)}")


_CHECKS: dict[str, Callable[[str, Any], None]] = {
    "priority": check_priority,
    "countdown": _span,
    "expires": _expires,
    "queue": _queue,
    "exchange": _exchange,
    "chord": _signature,
    "chain": _chain,
    "headers": _mapping,
    "retry_policy": _mapping,
    "timeout": _seconds,
    **dict.fromkeys(("time_limit", "soft_time_limit"), _seconds),
    **dict.fromkeys(("retries", "group_index", "replaced_task_nesting"), _count),
    **dict.fromkeys(("link", "link_error"), _signatures),
    **dict.fromkeys(
        ("task_id", "group_id", "root_id", "parent_id", "reply_to", "correlation_id", "message_id"), _text
    ),
    **dict.fromkeys(("routing_key", "exchange_type", "serializer", "compression", "shadow"), _text),
}


def _refuse_misspelled(name: str, known: Collection[str]) -> None:
    import difflib

    near = difflib.get_close_matches(name, [*known, *_CHECKS], n=1, cutoff=0.85)
    if near:
        raise TypeError(f"a call has no option {name!r}: did you mean {near[0]!r}?")
