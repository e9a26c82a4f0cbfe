"""Values of settings: checked, converted from text, and hidden where they are secret. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from engine.errors import ConfigurationError
from engine.masking import mask_text
from engine.settings_rows import Row

_TRUE = frozenset({"true", "yes", "on", "1", "y", "t"})
_FALSE = frozenset({"false", "no", "off", "0", "n", "f", ""})
_SECRET = re.compile(
    r"passw|secret|token|access_key|private_key|api_?key|key_password|signature", re.IGNORECASE
)


def parse_text(row: Row, text: str, spelled: str) -> Any:
    """The value a text (an environment variable) stands for: JSON for dicts, commas for lists."""
    kind = row.base_kind
    if row.nullable and text.lower() in ("none", "null"):
        return None
    if kind == "list":
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if kind == "dict" or (kind == "any" and text[:1] in "{["):
        try:
            return json.loads(text)
        except ValueError as error:
            raise ConfigurationError(f"{spelled} is not JSON: {error}") from None
    return text


def to_kind(row: Row, value: Any, spelled: str) -> Any:
    """``value`` as the row wants it. Raises ConfigurationError that names the setting and what it takes."""
    if value is None:
        return None if row.nullable or row.base_kind == "any" else row.default
    try:
        converted = _CONVERT[row.base_kind](value)
    except (TypeError, ValueError):
        raise ConfigurationError(
            f"{spelled} takes {_WORDS[row.base_kind]}, not {_brief(row.name, value)}"
        ) from None
    if row.choices and converted not in row.choices:
        raise ConfigurationError(
            f"{spelled} is one of {', '.join(map(str, row.choices))}, not {_brief(row.name, value)}"
        )
    if row.minimum is not None and converted < row.minimum:
        raise ConfigurationError(f"{spelled} is at least {row.minimum:g}, not {_brief(row.name, value)}")
    return converted


def looks_secret(name: str) -> bool:
    """Whether the name says that its value must not be shown."""
    return _SECRET.search(name) is not None


def _brief(name: str, value: Any) -> str:
    if looks_secret(name):
        return "what was given"
    shown = mask_text(repr(value))
    return shown if len(shown) <= 80 else shown[:77] + "..."


def _to_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    if isinstance(value, str):
        lowered = value.strip().lower()
        if lowered in _TRUE:
            return True
        if lowered in _FALSE:
            return False
    raise ValueError(value)


def _to_int(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError(value)
    if isinstance(value, float):
        if not value.is_integer():
            raise ValueError(value)
        return int(value)
    return int(value)


def _to_seconds(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError(value)
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if math.isnan(seconds):
        raise ValueError(value)
    return seconds


def _to_str(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode()
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _to_url(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ";".join(_to_str(part) for part in value)
    return _to_str(value)


def _to_list(value: Any) -> tuple[Any, ...]:
    if isinstance(value, (str, bytes)):
        return (value,)
    return tuple(value)


def _to_dict(value: Any) -> dict[Any, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(value)
    return dict(value)


_CONVERT: dict[str, Any] = {
    "str": _to_str,
    "int": _to_int,
    "float": _to_seconds,
    "seconds": _to_seconds,
    "bool": _to_bool,
    "dict": _to_dict,
    "list": _to_list,
    "url": _to_url,
    "any": lambda value: value,
}
_WORDS = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "seconds": "seconds (a number or a timedelta)",
    "bool": "true or false",
    "dict": "a mapping",
    "list": "a list",
    "url": "a URL or a list of URLs",
    "any": "anything",
}
