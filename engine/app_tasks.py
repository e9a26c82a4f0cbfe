"""The app's third layer: its tasks, how they get there and what they are called."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar, cast, overload

from engine import context as running
from engine.app_broker import AppBroker
from engine.errors import NotRegistered
from engine.task import Task, make_task_class

if TYPE_CHECKING:
    from engine.app import Engine

P = ParamSpec("P")
R = TypeVar("R")


class _Decorator(Protocol):
    """``@app.task(...)`` keeps the function's parameters."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...


class _BoundDecorator(Protocol):
    """``@app.task(bind=True)`` takes the first one, the task itself, away."""

    @overload
    def __call__(self, function: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /) -> Task[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Any, P], R], /) -> Task[P, R]: ...


class AppTasks(AppBroker):
    """The registry. Tasks are registered at once, and take their settings when the app is finalized."""

    task_cls: type[Task[Any, Any]] = Task

    def __init__(
        self, main: str | None, keywords: Mapping[str, Any], source: Any, namespace: str | None
    ) -> None:
        super().__init__(keywords, source, namespace)
        self.main = main
        self._tasks: dict[str, Task[Any, Any]] = {}
        self._finalized = False
        self._loaded = False
        self._packages: list[tuple[Sequence[str] | Callable[[], Sequence[str]], str | None]] = []

    @overload
    def task(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(self, *, bind: Literal[True], **options: Any) -> _BoundDecorator: ...
    @overload
    def task(self, *, bind: Literal[False] = ..., **options: Any) -> _Decorator: ...
    def task(self, *given: Any, **options: Any) -> Any:
        """Register a function as a task: ``@app.task`` or ``@app.task(bind=True, ...)``.

        ``bind`` passes the task as first argument; ``name`` and ``base`` are its name and class; every other
        option is an attribute of the task."""
        bind = bool(options.pop("bind", False))
        if not given:
            return lambda function: self._register_function(function, bind, dict(options))
        if len(given) > 1 or not callable(given[0]):
            raise TypeError("app.task takes a function; give options by name: @app.task(bind=True)")
        return self._register_function(given[0], bind, dict(options))

    def _register_function(
        self, function: Callable[..., Any], bound: bool, options: dict[str, Any]
    ) -> Task[Any, Any]:
        base = options.pop("base", None) or self.task_cls
        name = options.pop("name", None) or self.gen_task_name(function.__name__, function.__module__)
        options.pop("shared", None)
        options.pop("lazy", None)
        known = self._tasks.get(name)
        if known is not None and getattr(known, "__wrapped__", None) is function:
            return known
        made = make_task_class(function, base, bound, {**options, "name": name})
        task: Task[Any, Any] = self.register_task(made())
        return task

    def register_task(self, task: Any) -> Any:
        """Register a class-based task (an instance or a class); the instance."""
        instance: Any = task() if isinstance(task, type) else task
        if not instance.name:
            instance.name = self.gen_task_name(type(instance).__name__, type(instance).__module__)
        instance.app = cast("Engine", self)
        self._tasks[instance.name] = instance
        if self._finalized:
            instance.bind(cast("Engine", self))
        return instance

    def gen_task_name(self, name: str, module: str) -> str:
        """``module.function``; in the main module the app's ``main``, or the name it has when imported."""
        if module == "__main__":
            module = self.main or _main_module_name()
        return f"{module}.{name}"

    @property
    def tasks(self) -> dict[str, Task[Any, Any]]:
        """The tasks by name."""
        if not self._finalized:
            self.finalize()
        return self._tasks

    def find_task(self, name: str) -> Task[Any, Any]:
        """Raises NotRegistered, which names what is there."""
        task = self.tasks.get(name)
        if task is None:
            raise NotRegistered(_not_registered(name, self._tasks))
        return task

    def finalize(self, auto: bool = False) -> None:
        """Give every task its settings. Happens by itself at the first use of ``tasks``."""
        with self._lock:
            if self._finalized:
                return
            self._finalized = True
            for make in running.shared_tasks():
                make(self)
            for task in list(self._tasks.values()):
                task.bind(cast("Engine", self))

    def load(self) -> None:
        """Import the modules that hold tasks (imports, include, autodiscovered ones). Connects to nothing."""
        with self._lock:
            if not self._loaded:
                self._loaded = True
                for module in (*self.conf.imports, *self.conf.include):
                    import_module(module)
                for packages, related in self._packages:
                    _discover(packages() if callable(packages) else packages, related)
            self.finalize()

    def autodiscover_tasks(
        self,
        packages: Sequence[str] | Callable[[], Sequence[str]] = (),
        related_name: str | None = "tasks",
        force: bool = False,
    ) -> None:
        """Import ``<package>.<related_name>`` of each package where there is one, when the app is loaded."""
        self._packages.append((packages, related_name))
        if force or self._loaded:
            _discover(packages() if callable(packages) else packages, related_name)


def _main_module_name() -> str:
    """What the main module is called when a worker imports it."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name.removesuffix(".__main__"))
    file = getattr(main, "__file__", None)
    return os.path.splitext(os.path.basename(file))[0] if file else "__main__"


def _discover(packages: Sequence[str], related: str | None) -> None:
    from importlib.util import find_spec

    for package in packages:
        import_module(package)
        if related and find_spec(f"{package}.{related}") is not None:
            import_module(f"{package}.{related}")


def _not_registered(name: str, tasks: Mapping[str, Any]) -> str:
    import difflib

    near = difflib.get_close_matches(name, tasks, n=1)
    hint = f": did you mean {near[0]!r}?" if near else f" ({len(tasks)} are; is its module in include?)"
    return f"no task is registered as {name!r}{hint}"
