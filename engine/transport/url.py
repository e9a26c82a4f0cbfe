"""Broker and result-store URLs: taken apart, and shown without their passwords."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from engine.errors import ConfigurationError

_PASSWORD = re.compile(r"(?P<head>[a-z][a-z0-9+.\-]*://[^/?#;,\s@:]*):[^\s;]*@", re.IGNORECASE)
_SECRET_QUERY = re.compile(
    r"(?P<key>[?&][^=&;]*(?:password|passwd|secret|token|key)[^=&;]*)=[^&;\s]*", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class BrokerURL:
    """One URL, taken apart. ``path`` is without its first slash and percent-decoded; None when absent."""

    scheme: str
    host: str | None = None
    port: int | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    path: str | None = None
    query: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, url: str) -> BrokerURL:
        """Raises ConfigurationError for what is not a URL; the message never holds the password."""
        try:
            parts = urlsplit(url)
            port = parts.port
            host = parts.hostname
        except ValueError as error:
            raise ConfigurationError(f"not a broker URL: {mask_url(url)!r} ({error})") from None
        if not parts.scheme:
            raise ConfigurationError(f"not a broker URL: {mask_url(url)!r} (it needs a scheme, e.g. amqp://)")
        path = unquote(parts.path[1:]) if parts.path.startswith("/") else (parts.path or None)
        return cls(
            scheme=parts.scheme.lower(),
            host=unquote(host) if host else None,
            port=port,
            user=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password is not None else None,
            path=path,
            query=dict(parse_qsl(parts.query, keep_blank_values=True)),
        )


def mask_url(url: str) -> str:
    """The URL (or a failover list, or any text with URLs in it) with every password replaced by ``**``."""
    masked = _PASSWORD.sub(r"\g<head>:**@", url)
    return _SECRET_QUERY.sub(r"\g<key>=**", masked)


def split_failover(url: str | list[str] | tuple[str, ...]) -> list[str]:
    """``url1;url2`` or a list, as a list without blanks. Raises ConfigurationError when nothing is left."""
    parts = url.split(";") if isinstance(url, str) else list(url)
    urls = [part.strip() for part in parts if part.strip()]
    if not urls:
        raise ConfigurationError("the broker URL is empty: set broker_url, e.g. sqlite:///engine.db")
    return urls
