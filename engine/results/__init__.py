"""Result stores. `open_store` picks the module by the URL's scheme and imports only that one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from engine.errors import ConfigurationError
from engine.results.base import ResultMeta, ResultStore
from engine.transport.url import mask_url

__all__ = ["DISABLED", "ResultMeta", "ResultStore", "open_store"]

#: values of ``result_backend`` that mean: keep none
DISABLED = frozenset({"disabled", "disabled://", "none", ""})


def open_store(
    url: str,
    *,
    expires_s: float | None = 86400.0,
    transport: Any = None,
    transport_factory: Callable[[], Any] | None = None,
    oid: str | None = None,
    persistent: bool = False,
    accept: Collection[str] | None = None,
    redis_options: Mapping[str, Any] | None = None,
) -> ResultStore:
    """A new store for ``result_backend``, connected when used. Raises ConfigurationError.

    ``transport`` lets a SQLite store share the connection of its child; ``transport_factory`` and ``oid``
    (the name of the caller's reply queue) are for rpc, as is ``accept``, the content types of replies that
    are read.
    """
    scheme = url.partition(":")[0].lower()
    scheme = scheme.removeprefix("cache+") if scheme == "cache+memory" else scheme
    if scheme == "sqlite":
        from engine.results.sqlite import SqliteStore

        return SqliteStore(url, expires_s=expires_s, transport=transport)
    if scheme in ("redis", "rediss", "redis+socket"):
        from engine.results.redis import RedisStore

        return RedisStore(url, expires_s=expires_s, **(redis_options or {}))
    if scheme == "rpc":
        from engine.results.rpc import RpcStore

        if transport_factory is None or oid is None:
            raise ConfigurationError("rpc:// results need an app: use app.open_store()")
        return RpcStore(transport_factory, oid=oid, expires_s=expires_s, persistent=persistent, accept=accept)
    if scheme == "memory":
        from engine.results.memory import MemoryStore

        return MemoryStore(url, expires_s=expires_s)
    raise ConfigurationError(
        f"no result store for {mask_url(url)!r}: use sqlite:///file.db, redis://..., rpc:// or disabled://"
    )
