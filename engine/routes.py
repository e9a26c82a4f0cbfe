"""``task_routes``: which route a task's name gets, resolved as celery/app/routes.py does.

A router is a mapping (exact name, glob or compiled regex -> queue name or options), a function
``(name, args, kwargs, options, task=None)``, an old object with ``route_for_task``, or the path of either.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any

from engine.errors import ConfigurationError

#: what a router returns: a queue's name, options, or None for "not mine"
Answer = str | Mapping[str, Any] | None


class MapRouter:
    """A mapping, or a list of pairs, of names and patterns to routes."""

    static = True

    def __init__(self, routes: Mapping[Any, Any] | Iterable[tuple[Any, Any]]) -> None:
        self._exact: dict[str, Any] = {}
        self._patterns: list[tuple[re.Pattern[str], Any]] = []
        for key, route in routes.items() if isinstance(routes, Mapping) else routes:
            if isinstance(key, re.Pattern):
                self._patterns.append((key, route))
            elif "*" in key:
                self._patterns.append((re.compile(fnmatch.translate(key)), route))
            else:
                self._exact[key] = route

    def __call__(self, name: str, args: Any, kwargs: Any, options: Any, task: Any = None) -> Answer:
        if name in self._exact:
            return _as_route(self._exact[name])
        return next((_as_route(route) for pattern, route in self._patterns if pattern.match(name)), None)


class PathRouter:
    """A function or class named by its path, imported at its first use."""

    static = False

    def __init__(self, path: str) -> None:
        self._path = path
        self._router: Callable[..., Answer] | None = None

    def __call__(self, name: str, args: Any, kwargs: Any, options: Any, task: Any = None) -> Answer:
        if self._router is None:
            found = _import_path(self._path)
            self._router = _callable_router(found() if isinstance(found, type) else found)
        return self._router(name, args, kwargs, options, task=task)


def prepare(routes: Any) -> list[Callable[..., Answer]]:
    """``task_routes`` as a list of routers. Raises ConfigurationError for what is none."""
    if routes is None:
        return []
    if not isinstance(routes, (list, tuple)):
        routes = (routes,)
    return [_router(route) for route in routes]


def is_static(routers: Sequence[Callable[..., Answer]]) -> bool:
    """Whether a task's route depends on its name alone, so that it may be remembered."""
    return all(getattr(router, "static", False) for router in routers)


def _router(route: Any) -> Callable[..., Answer]:
    if isinstance(route, (Mapping, list, tuple)):
        return MapRouter(route)
    if isinstance(route, str):
        return PathRouter(route)
    return _callable_router(route)


def _callable_router(router: Any) -> Callable[..., Answer]:
    if hasattr(router, "route_for_task"):
        old = router.route_for_task
        return lambda name, args, kwargs, options, task=None: old(name, args, kwargs)
    if not callable(router):
        raise ConfigurationError(f"task_routes: {router!r} is neither a mapping nor a function")
    return router  # type: ignore[no-any-return]


def _as_route(route: Any) -> Answer:
    if isinstance(route, str):
        return route
    return dict(route)


def _import_path(path: str) -> Any:
    module, _, name = path.replace(":", ".").rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"task_routes: cannot import the router {path!r}: {error}") from error
