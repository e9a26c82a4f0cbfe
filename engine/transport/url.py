"""Broker and result-store URLs: taken apart, and shown without their passwords.

What was read from a URL is remembered: a worker's template reads the broker's before it forks, and its
children are spared the parser, and copies of the memory that it touches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from urllib.parse import parse_qsl, unquote, urlsplit

from engine.errors import ConfigurationError
from engine.masking import mask_url

__all__ = ["UNQUOTED", "BrokerURL", "lookup_name", "mask_url", "split_failover"]

#: how a password is written in a URL
UNQUOTED = "in user name and password write %23 for #, %2F for /, %3F for ?, %3A for :, %40 for @, %25 for %"


@dataclass(frozen=True, slots=True)
class BrokerURL:
    """One URL, taken apart. ``path`` is without its first slash and percent-decoded; None when absent."""

    scheme: str
    host: str | None = None
    port: int | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    path: str | None = None
    query: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    @lru_cache(maxsize=64)
    def parse(url: str) -> BrokerURL:
        """Raises ConfigurationError for what is not a URL; the message never holds the password."""
        why = _why_no_url(url)
        if why is not None:
            raise ConfigurationError(f"not a broker URL: {mask_url(url)!r} ({why})")
        parts = urlsplit(url)
        path = unquote(parts.path[1:]) if parts.path.startswith("/") else (parts.path or None)
        return BrokerURL(
            scheme=parts.scheme.lower(),
            host=unquote(parts.hostname) if parts.hostname else None,
            port=parts.port,
            user=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password is not None else None,
            path=path,
            query=MappingProxyType(dict(parse_qsl(parts.query, keep_blank_values=True))),
        )


def _why_no_url(url: str) -> str | None:
    """What is wrong with it, without a word of it: a part taken for the port may be the password's."""
    try:
        parts = urlsplit(url)
        _ = parts.port, parts.hostname
    except ValueError:
        return f"host and port cannot be read; {UNQUOTED}"
    if not parts.scheme:
        return "it needs a scheme, e.g. amqp://"
    before, at, _rest = url.partition("://")[2].partition("@")
    if at and parts.netloc and "@" not in parts.netloc and ("#" in before or "=" not in before):
        return f"the @ comes after a /, # or ?; {UNQUOTED}"
    if parts.fragment:
        return f"it holds a #, after which nothing would be read; {UNQUOTED}"
    return None


def lookup_name(host: str) -> str:
    """A host as `socket.create_connection` is to be given it. As bytes where that is the same: text is taken
    through IDNA, whose tables are a megabyte in every process that connects."""
    return host.encode() if host.isascii() else host  # type: ignore[return-value] # text is all typeshed knows


def split_failover(url: str | list[str] | tuple[str, ...]) -> list[str]:
    """``url1;url2`` or a list, as a list without blanks. Raises ConfigurationError when nothing is left."""
    return list(_split(url if isinstance(url, str) else tuple(url)))


@lru_cache(maxsize=64)
def _split(given: str | tuple[str, ...]) -> tuple[str, ...]:
    parts = given.split(";") if isinstance(given, str) else given
    urls = tuple(part.strip() for part in parts if part.strip())
    if any("@" in part and "://" not in part for part in urls):
        raise ConfigurationError(
            f"not a list of broker URLs: {mask_url(';'.join(urls))!r} (what comes after a ; has no scheme; "
            f"{UNQUOTED})"
        )
    if not urls:
        raise ConfigurationError("the broker URL is empty: set broker_url, e.g. sqlite:///engine.db")
    return urls
