"""Settings: one row each (`engine.settings_rows`), from several sources, checked when they are set.

Priority: set at run time > keyword of the app > config module, object or mapping > environment > default.
A name nobody knows raises `UnknownSetting` with the nearest known one; a Celery setting without meaning here
is accepted with one warning that says why. The values stand as plain attributes: reading one costs nothing.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

from engine.errors import ConfigurationError, UnknownSetting
from engine.masking import mask_text, mask_url
from engine.settings_ignored import IGNORED, reason_ignored
from engine.settings_names import old_names
from engine.settings_rows import ROWS, Row
from engine.settings_values import looks_secret, parse_text, to_kind

__all__ = ["BY_NAME", "ROWS", "Row", "Settings", "canonical_name"]

BY_NAME: dict[str, Row] = {row.name: row for row in ROWS}
_IGNORED_NAMES = [name for name in IGNORED if not name.endswith("*")]
_SPELLINGS = old_names([*BY_NAME, *_IGNORED_NAMES])
_SECTIONS = tuple(sorted({name.partition("_")[0] + "_" for name in BY_NAME if "_" in name}))
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://")
_ENV_NAMES = frozenset(row.env for row in ROWS)
_warned: set[str] = set()

#: environment variables beside ENGINE_<NAME> that Celery reads too
_CELERY_ENV = {
    "broker_url": "CELERY_BROKER_URL",
    "broker_read_url": "CELERY_BROKER_READ_URL",
    "broker_write_url": "CELERY_BROKER_WRITE_URL",
    "result_backend": "CELERY_RESULT_BACKEND",
}


def canonical_name(name: str) -> str | None:
    """Today's spelling of a setting, also of those without meaning here; None when nobody knows it."""
    if name in BY_NAME or reason_ignored(name) is not None:
        return name
    if name in _SPELLINGS:
        return _SPELLINGS[name]
    if name.isupper():
        for lowered in (name.lower(), name.removeprefix("CELERY_").lower()):
            if reason_ignored(lowered) is not None:
                return lowered
    return None


class Settings(Mapping[str, Any]):
    """The settings of one app: attribute and mapping access to every row.

    ``conf.x = value``, ``conf["x"] = value`` and ``conf.update(...)`` set values later; whoever derives
    something from settings listens with ``on_change``.
    """

    _listeners: list[Callable[[], None]]

    def __init__(
        self,
        keywords: Mapping[str, Any] | None = None,
        source: Any = None,
        *,
        namespace: str | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.__dict__["_listeners"] = []
        self.__dict__["_changed"] = {}
        self.__dict__["set_later"] = {}  #: what was set at run time
        for layer in (
            _from_environment(os.environ if environ is None else environ),
            _from_source(source, namespace),
            _from_mapping(keywords or {}),
        ):
            self._changed.update(layer)
        self._apply()

    # -- reading ---------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        known = canonical_name(name)
        if known in BY_NAME and known != name:
            return self.__dict__[known]
        if name.startswith("__"):
            raise AttributeError(name)
        if known is not None:
            return None
        raise AttributeError(str(_unknown(name)))

    def __getitem__(self, name: str) -> Any:
        try:
            return self.__dict__[canonical_name(name) or name]
        except KeyError:
            raise KeyError(str(_unknown(name))) from None

    def __iter__(self) -> Iterator[str]:
        return iter(BY_NAME)

    def __len__(self) -> int:
        return len(BY_NAME)

    def __repr__(self) -> str:
        shown = {name: value for name, value in self.masked().items() if name in self._changed}
        return f"<Settings {shown}>"

    @property
    def _changed(self) -> dict[str, Any]:
        changed: dict[str, Any] = self.__dict__["_changed"]
        return changed

    @property
    def changed(self) -> dict[str, Any]:
        """The values that somebody set."""
        return {name: self.__dict__[name] for name in self._changed if name in BY_NAME}

    def masked(self) -> dict[str, Any]:
        """Every value, fit to be shown: passwords and keys are replaced by ``**``."""
        return {name: _shown(name, self.__dict__[name]) for name in BY_NAME}

    # -- setting ---------------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        self.update({name: value})

    def __setitem__(self, name: str, value: Any) -> None:
        self.update({name: value})

    def update(self, values: Mapping[str, Any] | None = None, **more: Any) -> None:
        """Set several at once, checked together. Raises UnknownSetting or ConfigurationError."""
        found = _from_mapping({**(values or {}), **more})
        self._changed.update(found)
        self.__dict__["set_later"].update(found)
        self._apply()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` after every later change."""
        self._listeners.append(listener)

    def _apply(self) -> None:
        values = {row.name: dict(row.default) if row.base_kind == "dict" else row.default for row in ROWS}
        values.update({name: value for name, value in self._changed.items() if name in BY_NAME})
        if values["broker_host"] and "broker_url" not in self._changed:
            values["broker_url"] = _url_from_parts(values)
        if values["worker_prefetch"] is None:
            values["worker_prefetch"] = (
                1 if values["worker_disable_prefetch"] else values["worker_prefetch_multiplier"]
            )
        if values["worker_prefetch"] == 0:  # Celery's "no limit"
            values["worker_prefetch"] = None
        for name in ("task_default_exchange", "task_default_routing_key"):
            if values[name] is None:
                values[name] = values["task_default_queue"]
        self.__dict__.update(values)
        for listener in self._listeners:
            listener()


def _url_from_parts(values: Mapping[str, Any]) -> str:
    from urllib.parse import quote

    user, password = values["broker_user"], values["broker_password"]
    login = quote(user or "", safe="") + (f":{quote(password, safe='')}" if password else "")
    port = f":{values['broker_port']}" if values["broker_port"] else ""
    vhost = quote(values["broker_vhost"] or "", safe="")
    scheme = values["broker_transport"] or "amqp"
    return f"{scheme}://{login + '@' if login else ''}{values['broker_host']}{port}/{vhost}"


# -- sources -------------------------------------------------------------------------------------------


def _from_mapping(values: Mapping[str, Any]) -> dict[str, Any]:
    """Known names with checked values; raises UnknownSetting."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        known = canonical_name(name)
        if known is None:
            raise _unknown(name)
        _take(found, known, name, value)
    return found


def _take(found: dict[str, Any], known: str, spelled: str, value: Any) -> None:
    row = BY_NAME.get(known)
    if row is not None:
        found[known] = to_kind(row, value, spelled)
        return
    if known not in _warned:
        _warned.add(known)
        warnings.warn(
            f"the setting {spelled} has no effect: {reason_ignored(known)}", UserWarning, stacklevel=2
        )


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for row in ROWS:
        for variable in (row.env, _CELERY_ENV.get(row.name)):
            text = environ.get(variable) if variable else None
            if text is not None and variable is not None and (text or row.base_kind == "str"):
                found[row.name] = to_kind(row, parse_text(row, text, variable), variable)
                break
    _warn_of_misspelled(environ)
    return found


def _warn_of_misspelled(environ: Mapping[str, str]) -> None:
    """A variable that is nobody's setting, and nearly one's."""
    for variable in environ:
        if variable.startswith("ENGINE_") and variable not in _ENV_NAMES and variable not in _warned:
            import difflib

            near = difflib.get_close_matches(variable, _ENV_NAMES, n=1, cutoff=0.9)
            if near:
                _warned.add(variable)
                warnings.warn(
                    f"the environment variable {variable} has no effect: did you mean {near[0]}?",
                    UserWarning,
                    stacklevel=2,
                )


def _from_source(source: Any, namespace: str | None) -> dict[str, Any]:
    """A mapping, an object, a module, or the name of a module or of an object in one (``mod:attr``)."""
    if source is None:
        return {}
    if isinstance(source, str):
        source = _import_source(source)
    if isinstance(source, Mapping):
        values = {str(name): value for name, value in source.items()}
        return _from_mapping(_strip(values, namespace) if namespace else values)
    values = {name: getattr(source, name) for name in dir(source) if not name.startswith("_")}
    if namespace:
        return _from_mapping(_strip(values, namespace))
    return _from_object(values)


def _strip(values: Mapping[str, Any], namespace: str) -> dict[str, Any]:
    """``CELERY_TASK_ROUTES`` of Django's settings, namespace CELERY, is ``task_routes``."""
    prefix = namespace if namespace.endswith("_") else namespace + "_"
    found: dict[str, Any] = {}
    for name, value in values.items():
        if name.startswith(prefix):
            rest = name[len(prefix) :]
            found[
                rest.lower() if canonical_name(rest.lower()) else name if canonical_name(name) else rest
            ] = value
    return found


def _from_object(values: Mapping[str, Any]) -> dict[str, Any]:
    """A config module holds more than settings: imports, functions, constants of its own. An unknown name is
    an error only when it is plain data and looks like a setting: a section's prefix and a near known name."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        known = canonical_name(name)
        if known is not None:
            if not isinstance(value, (ModuleType, type)):
                _take(found, known, name, value)
        elif name.islower() and name.startswith(_SECTIONS) and not callable(value) and _nearest(name, 0.85):
            raise _unknown(name)
    return found


def _import_source(path: str) -> Any:
    from importlib import import_module

    module_name, _, attribute = path.partition(":")
    try:
        try:
            module: Any = import_module(module_name)
        except ModuleNotFoundError as error:
            head, _, tail = module_name.rpartition(".")
            if attribute or not head or error.name != module_name:
                raise
            module, attribute = import_module(head), tail
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"cannot read settings from {path!r}: {error}") from error
    try:
        return getattr(module, attribute) if attribute else module
    except AttributeError:
        raise ConfigurationError(f"cannot read settings from {path!r}: no {attribute!r} in it") from None


# -- words ---------------------------------------------------------------------------------------------


def _nearest(name: str, cutoff: float = 0.75) -> str | None:
    import difflib

    known = [*BY_NAME, *_IGNORED_NAMES, *(_SPELLINGS if name.isupper() else ())]
    near = difflib.get_close_matches(name, known, n=1, cutoff=cutoff)
    return near[0] if near else None


def _unknown(name: str) -> UnknownSetting:
    near = _nearest(name)
    return UnknownSetting(f"there is no setting {name!r}" + (f": did you mean {near!r}?" if near else ""))


def _shown(name: str, value: Any) -> Any:
    if looks_secret(name) and value not in (None, "", False):
        return "**"
    if isinstance(value, Mapping):
        return {key: _shown(str(key), item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_masked(item) if isinstance(item, str) else item for item in value)
    return _masked(value) if isinstance(value, str) else value


def _masked(text: str) -> str:
    """A setting that begins like a URL is one; others are text."""
    return mask_url(text) if _URL.match(text) else mask_text(text)
