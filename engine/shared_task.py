"""``@shared_task``: a task of every app, for libraries that have none of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine import context as running


def shared_task(function: Any = None, /, **options: Any) -> Any:
    """Register the function in every app; calls go to the current one's task."""
    if function is None:
        return lambda given: shared_task(given, **options)
    name = options.get("name")

    def make(app: Any) -> Any:
        return app.task(**options)(function)

    running.share_task(make)
    return _SharedTask(function, name)


class _SharedTask:
    """Stands for the current app's task of that function."""

    def __init__(self, function: Callable[..., Any], name: str | None) -> None:
        self.__wrapped__ = function
        self.__doc__ = function.__doc__
        self._function, self._name = function, name

    def _task(self) -> Any:
        app = running.current_app()
        app.finalize()
        return app.tasks[self._name or app.gen_task_name(self._function.__name__, self._function.__module__)]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._task()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task(), name)
