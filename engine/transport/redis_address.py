"""Where a Redis is and how to get in: a URL and ``broker_use_ssl`` taken apart.

Rules: TLS verifies certificate and host name unless it is switched off aloud (a warning says so); spellings
of kombu and redis-py are understood (``ssl_cert_reqs``, ``ssl_ca_certs``, ``?virtual_host=``,
``redis+socket://``); no password is ever shown. No socket is opened here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engine.errors import ConfigurationError
from engine.transport.url import BrokerURL, mask_url

if TYPE_CHECKING:  # OpenSSL is imported where TLS is wanted: 8 ms and a megabyte
    import ssl

logger = logging.getLogger("engine.transport.redis")

DEFAULT_PORT = 6379
_TLS_SCHEMES = frozenset({"rediss"})
_UNIX_SCHEMES = frozenset({"redis+socket", "redis+unix", "unix", "socket"})
_SCHEMES = frozenset({"redis"}) | _TLS_SCHEMES | _UNIX_SCHEMES
_CERT_REQS = frozenset({"required", "optional", "none"})


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """One Redis database. ``unix_path`` is set for a Unix socket, ``tls`` for an encrypted connection."""

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    db: int = 0
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    unix_path: str | None = None
    tls: ssl.SSLContext | None = field(default=None, repr=False, compare=False)

    @classmethod
    def parse(cls, url: str, tls_options: Mapping[str, Any] | bool | None = None) -> RedisAddress:
        """Raises ConfigurationError for what does not name one Redis."""
        if url.lower().startswith("sentinel"):
            raise ConfigurationError(
                "Redis Sentinel is not supported: name the master itself, or a proxy that follows it"
            )
        parts = BrokerURL.parse(url)
        if parts.scheme not in _SCHEMES:
            raise ConfigurationError(f"not a Redis URL: {mask_url(url)!r} (use redis:// or rediss://)")
        unix = parts.scheme in _UNIX_SCHEMES
        context = None
        if parts.scheme in _TLS_SCHEMES or (tls_options and not unix):
            context = _tls_context(_tls_settings(parts.query, tls_options), mask_url(url))
        return cls(
            host=parts.host or "127.0.0.1",
            port=parts.port or DEFAULT_PORT,
            db=_database(parts.query.get("virtual_host") if unix else _path_or_query(parts), url),
            user=parts.user,
            password=parts.password,
            unix_path=_unix_path(parts) if unix else None,
            tls=context,
        )

    def __str__(self) -> str:
        place = self.unix_path or f"{self.host}:{self.port}"
        return f"{'rediss' if self.tls else 'redis'}://{place}/{self.db}"


def _path_or_query(parts: BrokerURL) -> str | None:
    return parts.path or parts.query.get("virtual_host") or parts.query.get("db")


def _unix_path(parts: BrokerURL) -> str:
    pieces = [piece for piece in (parts.host, parts.path) if piece]
    return "/" + "/".join(pieces).lstrip("/")


def _database(path: str | None, url: str) -> int:
    text = (path or "").strip("/")
    if not text:
        return 0
    if text.isdigit():
        return int(text)
    raise ConfigurationError(f"a Redis database is a number, not {text!r}: see {mask_url(url)!r}")


def _tls_settings(query: Mapping[str, str], options: Mapping[str, Any] | bool | None) -> dict[str, Any]:
    """One mapping without the ``ssl_`` prefix; the URL's own words win."""
    settings = dict(options) if isinstance(options, Mapping) else {}
    settings.update({key: value for key, value in query.items() if key.startswith("ssl_")})
    return {key.removeprefix("ssl_"): value for key, value in settings.items()}


def _tls_context(settings: Mapping[str, Any], shown: str) -> ssl.SSLContext:
    import ssl

    reqs = settings.get("cert_reqs", ssl.CERT_REQUIRED)
    if isinstance(reqs, str):
        word = reqs.lower().removeprefix("cert_")
        if word not in _CERT_REQS:
            raise ConfigurationError(f"ssl_cert_reqs is {reqs!r}: use required, optional or none")
        reqs = ssl.VerifyMode[f"CERT_{word.upper()}"]
    check_host = str(settings.get("check_hostname", "true")).lower() not in ("false", "0", "no")
    try:
        context = ssl.create_default_context(
            cafile=settings.get("ca_certs"), capath=settings.get("ca_path"), cadata=settings.get("ca_data")
        )
        if settings.get("certfile"):
            context.load_cert_chain(settings["certfile"], settings.get("keyfile"), settings.get("password"))
    except OSError as error:
        raise ConfigurationError(f"the TLS files for {shown} cannot be read: {error}") from None
    if reqs == ssl.CERT_NONE or not check_host:
        logger.warning(
            "TLS to %s does not verify %s: whoever sits between can read and change every task",
            shown,
            "the certificate" if reqs == ssl.CERT_NONE else "the host name",
        )
        context.check_hostname = False
    context.verify_mode = ssl.VerifyMode(reqs)
    return context
