"""The versions of all that took part in a bench: the sides, their clients, the broker where it tells."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Sequence
from importlib import metadata

import engine
from engine.bench.plan import AMQP_SCHEMES
from engine.errors import EngineError

#: The distributions that matter to a side.
_OF_SIDE = {
    "engine": ("redis", "hiredis", "apsw", "kombu"),
    "celery": ("celery", "kombu", "amqp", "redis"),
    "dramatiq": ("dramatiq", "pika", "redis"),
    "huey": ("huey", "redis"),
    "raw": ("hiredis", "apsw"),
}


def versions(sides: Sequence[str], broker: str) -> dict[str, str]:
    """Name and version of each; a broker that does not tell its own, or not over TLS, is left out."""
    found = {"engine": engine.__version__, "Python": platform.python_version()}
    for name in dict.fromkeys(name for side in sides for name in _OF_SIDE[side]):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    with contextlib.suppress(EngineError, OSError, ImportError, LookupError):
        found |= broker_version(broker)
    return found


def broker_version(url: str) -> dict[str, str]:
    """What the broker says it is. Raises EngineError, OSError when it cannot be asked."""
    url = url.split(";")[0].strip()
    scheme = url.partition(":")[0].lower()
    if scheme == "sqlite":
        import apsw

        return {"SQLite": apsw.sqlite_lib_version()}
    if scheme == "redis":
        from engine.bench import raw_redis

        with contextlib.closing(raw_redis.Link(url)) as redis:
            told = dict(
                line.split(":", 1) for line in redis.ask("INFO", "server").decode().split() if ":" in line
            )
        return {"Redis": told["redis_version"]}
    if scheme in AMQP_SCHEMES and scheme != "amqps":
        from engine.bench import raw_amqp

        with contextlib.closing(raw_amqp.Link(url)) as link:
            return {str(link.server["product"]): str(link.server["version"])}
    return {}
