"""An ordinary ``engine run``, read without click: the worker starts sooner, and its supervisor, which lives
for as long as the worker, is spared click's memory (3 MiB).

Whatever is not ordinary (help, a mistake, a rare option) is left to click and to `engine.cli.run`: what is
read here means the same there, which a test holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from engine.errors import EngineError

if TYPE_CHECKING:
    from engine.worker.options import WorkerOptions

_LEVELS = ("debug", "info", "warning", "error", "critical")


class _NotOrdinaryError(Exception):
    """For click."""


def _text(word: str) -> str:
    return word


def _count(word: str) -> int:
    if not (word.isascii() and word.isdecimal() and len(word) < 16 and int(word)):
        raise _NotOrdinaryError
    return int(word)


def _seconds(word: str) -> float:
    if not (word.isascii() and word.replace(".", "", 1).isdecimal() and float(word)):
        raise _NotOrdinaryError
    return float(word)


def _level(word: str) -> str:
    if word.lower() not in _LEVELS:
        raise _NotOrdinaryError
    return word.upper()


def _queues(word: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in word.split(",") if name.strip())
    if not names:
        raise _NotOrdinaryError
    return names


#: option: the name in `WorkerOptions` ("app" is the app's), and how its value is read
_OPTIONS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "-A": ("app", _text),
    "--app": ("app", _text),
    "-c": ("concurrency", _count),
    "--concurrency": ("concurrency", _count),
    "-Q": ("queues", _queues),
    "--queues": ("queues", _queues),
    "-n": ("hostname", _text),
    "--hostname": ("hostname", _text),
    "-l": ("loglevel", _level),
    "--loglevel": ("loglevel", _level),
    "--prefetch": ("prefetch", _count),
    "--max-tasks-per-child": ("max_tasks_per_child", _count),
    "--max-memory-per-child": ("max_memory_per_child_kib", _count),
    "--time-limit": ("time_limit", _seconds),
    "--soft-time-limit": ("soft_time_limit", _seconds),
    "--drain-deadline": ("drain_deadline_s", _seconds),
}


def read(words: Sequence[str]) -> tuple[str, WorkerOptions] | None:
    """The app and the worker's options, from the words after ``engine run``; None: that is for click."""
    given: dict[str, Any] = {}
    apps: list[str] = []
    rest = iter(words)
    try:
        for word in rest:
            if not word.startswith("-"):
                apps.append(word)
            elif word == "--json-logs":
                given["json_logs"] = True
            else:
                option, equals, value = word.partition("=")
                name, convert = _OPTIONS[option]
                if equals and not option.startswith("--"):
                    return None
                if not equals:
                    value = next(rest)
                if value.startswith("-"):
                    return None
                given[name] = convert(value)
    except (_NotOrdinaryError, KeyError, StopIteration):
        return None
    if "app" in given:
        apps.append(given.pop("app"))
    return _checked(apps, given)


def _checked(apps: list[str], given: dict[str, Any]) -> tuple[str, WorkerOptions] | None:
    from engine.worker.options import MAX_CONCURRENCY, WorkerOptions

    soft, hard = given.get("soft_time_limit"), given.get("time_limit")
    at_odds = soft is not None and hard is not None and soft >= hard
    if len(apps) != 1 or at_odds or given.get("concurrency", 1) > MAX_CONCURRENCY:
        return None
    return apps[0], WorkerOptions(**given)


def run(app: str, options: WorkerOptions) -> int:
    """The worker; its exit status, or that of what kept it from starting, which is told."""
    from engine.worker import run_worker

    try:
        return run_worker(app, options)
    except (KeyboardInterrupt, EngineError, OSError) as error:
        from engine.cli.commands import status_of

        return status_of(error)
