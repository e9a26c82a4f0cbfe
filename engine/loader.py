"""Finding the app that a command names: ``module:attribute``, ``module``, or ``file.py[:attribute]``.

What goes wrong is one clear line (ConfigurationError); an error in the user's own module is shown as it is.
"""

from __future__ import annotations

import difflib
import inspect
import os
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from engine.app import Engine
from engine.errors import ConfigurationError
from engine.task import Task

#: where an app is looked for when no attribute is named
_USUAL_NAMES = ("app", "engine", "celery", "application")


def load_app(path: str) -> Engine:
    """The app that ``path`` names. The current directory can be imported from."""
    module_name, _, attribute = path.partition(":")
    if not module_name:
        raise ConfigurationError("name the app as module:attribute or file.py:attribute, e.g. app:app")
    if not module_name.strip("."):
        raise ConfigurationError(f"{path!r} is a folder: name the module or the file in it, e.g. app:app")
    _make_importable(os.getcwd())
    if module_name.endswith(".py") or os.sep in module_name:
        module = _import_file(module_name)
    else:
        module, attribute = _import_name(module_name, attribute)
    return _app_of(module, attribute, path) if attribute else _only_app(module, path)


def _make_importable(folder: str) -> None:
    if folder not in sys.path and "" not in sys.path:
        sys.path.insert(0, folder)


def _import_name(name: str, attribute: str) -> tuple[ModuleType, str]:
    """``package.module``; ``package.module.app`` works as ``package.module:app`` does."""
    if "" in name.split("."):
        raise ConfigurationError(
            f"{name!r} is not a module's name: name the app as app:app, or app.py for a file"
        )
    try:
        return import_module(name), attribute
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name != missing and not name.startswith(missing + "."):
            raise  # the module is there; something it imports is not
        head, _, tail = name.rpartition(".")
        if head and not attribute and missing == name:
            try:
                return import_module(head), tail
            except ModuleNotFoundError:
                pass
        raise ConfigurationError(_no_module(name, missing)) from None


def _no_module(name: str, missing: str) -> str:
    folder = os.getcwd()
    if missing != name:
        return (
            f"there is no module {missing!r}, which {name!r} would be in (looked in {folder} and on sys.path)"
        )
    if Path(name + ".py").is_file():
        return f"{name}.py is here, but Python finds no module {name!r}: is {folder} on sys.path?"
    files = [path.stem for path in Path().glob("*.py")]
    near = difflib.get_close_matches(name, files, n=1)
    hint = f": did you mean {near[0]!r}?" if near else f" (looked in {folder} and on sys.path)"
    return f"there is no module {name!r}{hint}"


def _import_file(name: str) -> ModuleType:
    """A file, under the name it has when imported from its folder, so that tasks are called the same."""
    path = Path(name).resolve()
    if not path.is_file():
        raise ConfigurationError(f"there is no file {name!r}")
    known = sys.modules.get(path.stem)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    _make_importable(str(path.parent))
    spec = spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"{name!r} is not a Python file")
    module = module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
    return module


def _app_of(module: ModuleType, attribute: str, path: str) -> Engine:
    found: Any = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ConfigurationError(_no_attribute(module, attribute)) from None
    if isinstance(found, ModuleType):
        return _only_app(found, path)
    if isinstance(found, Task):
        raise ConfigurationError(
            f"{path!r} is a task, not an app: name the app, then the task, "
            f"e.g. {_app_beside(module)} {found.name}"
        )
    if callable(found) and not isinstance(found, Engine):
        found = _made_by(found, path)
    if not isinstance(found, Engine):
        raise ConfigurationError(_no_engine(path, found))
    return found


def _app_beside(module: ModuleType) -> str:
    apps = [name for name, value in vars(module).items() if isinstance(value, Engine)]
    return f"{module.__name__}:{apps[0]}" if apps else "module:app"


def _made_by(factory: Callable[..., Any], path: str) -> Any:
    """What a function without parameters returns."""
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        raise ConfigurationError(
            f"{path!r} is not an app, nor a function that makes one without being given anything ({error})"
        ) from None
    except ValueError:  # a callable that cannot be looked into
        pass
    return factory()


def _only_app(module: ModuleType, path: str) -> Engine:
    for name in _USUAL_NAMES:
        found = getattr(module, name, None)
        if isinstance(found, Engine):
            return found
        if isinstance(found, ModuleType) and name == "celery":
            return _only_app(found, path)
    apps = {name: value for name, value in vars(module).items() if isinstance(value, Engine)}
    if len({id(app) for app in apps.values()}) == 1:
        return next(iter(apps.values()))
    if apps:
        names = " or ".join(f"{module.__name__}:{name}" for name in apps)
        raise ConfigurationError(f"{path!r} holds several apps: name one, {names}")
    raise ConfigurationError(f"no app in {path!r}: it needs a line like app = Engine()")


def _no_attribute(module: ModuleType, attribute: str) -> str:
    apps = [name for name, value in vars(module).items() if isinstance(value, Engine)]
    near = difflib.get_close_matches(attribute, [name for name in vars(module) if name[0] != "_"], n=1)
    where = f"{module.__name__!r} has no {attribute!r}"
    if apps:
        return f"{where}: did you mean {module.__name__}:{apps[0]}?"
    return f"{where}: did you mean {near[0]!r}?" if near else f"{where}, and no app at all"


def _no_engine(path: str, found: Any) -> str:
    kind = f"{type(found).__module__}.{type(found).__qualname__}"
    if kind == "celery.app.base.Celery":
        return f"{path!r} is a Celery app: write from engine import Engine; app = Engine(...) instead"
    return f"{path!r} is not an app but a {kind}"
