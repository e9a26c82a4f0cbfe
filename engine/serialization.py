"""Content types over kombu's registry: what a body is written as, and which bodies are read at all.

Rules: the accept list is asked before a single byte is decoded, and pickle and yaml are read only where the
list names them; names and MIME types mean the same thing; every failure is an error of `engine.errors`.
JSON's fast path belongs to the codec, one layer up: `dumps` and `loads` take its functions as ``write_json``
and ``read_json``, and use kombu's own where they are not given. Compression lives in `engine.compression`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from engine.compression import compress, decompress
from engine.errors import (
    ConfigurationError,
    ContentDisallowed,
    DecodeError,
    EncodeError,
    MissingExtra,
    install_hint,
)

__all__ = ["JSON", "accepted_types", "compress", "decompress", "dumps", "loads"]

JSON = "application/json"
DEFAULT_ACCEPT = ("json",)

# kombu's own names, so that an app of JSON alone never imports its registry.
_KNOWN_TYPES = {
    "json": JSON,
    "msgpack": "application/x-msgpack",
    "pickle": "application/x-python-serialize",
    "yaml": "application/x-yaml",
}
#: kombu reads these as bytes or text whatever the accept list says, unless a serializer took their name.
_RAW_TYPES = frozenset({"application/data", "application/text"})


def accepted_types(accept: Iterable[str] | None) -> frozenset[str]:
    """The MIME types of an accept list of names or MIME types; None means JSON alone.

    Raises ConfigurationError for a name that no serializer is registered for.
    """
    return _accepted_types(DEFAULT_ACCEPT if accept is None else tuple(accept))


@lru_cache(maxsize=64)
def _accepted_types(accept: tuple[str, ...]) -> frozenset[str]:
    return frozenset(name if "/" in name else _type_of(name) for name in accept)


def _type_of(name: str) -> str:
    if name in _KNOWN_TYPES:
        return _KNOWN_TYPES[name]
    try:
        return str(_registry().name_to_type[name])
    except KeyError:
        raise _unknown(name) from None


def _registry() -> Any:
    from kombu.serialization import registry

    return registry


def _unknown(name: str) -> ConfigurationError:
    known = ", ".join(sorted(_registry().name_to_type))
    return ConfigurationError(
        f"no serializer is called {name!r}; registered are {known}. "
        "Register yours with kombu.serialization.register() where the app is made."
    )


def _missing(name: str) -> MissingExtra:
    return MissingExtra(f"the serializer {name!r} needs a module that is not there: {install_hint(name)}")


def dumps(
    value: object, serializer: str = "json", *, write_json: Callable[[Any], bytes] | None = None
) -> tuple[str, str, bytes]:
    """(content type, content encoding, bytes) of a value; `serializer` is a name or a MIME type.

    Raises ConfigurationError for an unknown serializer, MissingExtra when its module is not installed,
    EncodeError for a value it can't write.
    """
    if write_json is not None and serializer in ("json", JSON):
        return JSON, "utf-8", write_json(value)
    registry = _registry()
    name = registry.type_to_name.get(serializer, serializer)
    if name != "raw" and name not in registry.name_to_type:
        raise _unknown(name)
    from kombu.exceptions import SerializerNotInstalled

    try:
        content_type, content_encoding, body = registry.dumps(value, serializer=name)
    except SerializerNotInstalled:
        raise _missing(name) from None
    except Exception as error:  # a serializer raises what it likes
        if isinstance(error.__cause__, SerializerNotInstalled):
            raise _missing(name) from None
        raise EncodeError(f"the value can't be written as {name}: {_said(error)}") from error
    if isinstance(body, str):
        body = body.encode("utf-8")
    return content_type, content_encoding, body


def loads(
    body: bytes,
    content_type: str | None,
    content_encoding: str | None,
    accept: Iterable[str] | None = None,
    *,
    read_json: Callable[[bytes], Any] | None = None,
) -> Any:
    """The value of a body, if the accept list (names or MIME types; None means JSON alone) allows its type.

    A missing content type means raw data, as for kombu. Raises ContentDisallowed before anything was decoded,
    DecodeError for a body that is not what it claims, MissingExtra when its module is not installed.
    """
    kind = _allowed_type(content_type or "application/data", accepted_types(accept))
    if kind == JSON and read_json is not None:
        return read_json(body)
    registry = _registry()
    from kombu.exceptions import SerializerNotInstalled

    try:
        return registry.loads(body, kind, content_encoding or "utf-8", force=True)
    except SerializerNotInstalled:
        raise _missing(registry.type_to_name.get(kind, kind)) from None
    except Exception as error:
        raise DecodeError(f"the body can't be read as {kind}: {_said(error)}") from error


def _allowed_type(content_type: str, accepted: frozenset[str]) -> str:
    """The type to decode as: as it came, or without parameters and in lower case; always accepted."""
    for kind in (content_type, content_type.partition(";")[0].strip().lower()):
        if kind in accepted or (kind in _RAW_TYPES and kind not in _registry()._decoders):
            return kind
    name = next((name for name, kind in _KNOWN_TYPES.items() if kind == content_type), content_type[:80])
    raise ContentDisallowed(
        f"the body is {name} ({content_type[:80]}), which this app does not accept: "
        f"if every publisher is trusted, add {name!r} to accept_content"
    )


def _said(error: BaseException) -> str:
    """What a serializer's error says, short: it may quote a whole value."""
    text = str(error)
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
