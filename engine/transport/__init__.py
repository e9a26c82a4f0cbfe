"""Ways to a broker. `open_transport` picks the module by the URL's scheme and imports only that one."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module

from engine.errors import ConfigurationError
from engine.transport.base import Capabilities, Transport, TransportOptions
from engine.transport.failover import open_first
from engine.transport.url import BrokerURL, mask_url, split_failover

__all__ = [
    "BrokerURL",
    "Capabilities",
    "Transport",
    "TransportOptions",
    "mask_url",
    "open_transport",
    "split_failover",
    "transport_class",
]

_SCHEMES = {
    "amqp": "engine.transport.amqp:AmqpTransport",
    "amqps": "engine.transport.amqp:AmqpTransport",
    "pyamqp": "engine.transport.amqp:AmqpTransport",
    "redis": "engine.transport.redis:RedisTransport",
    "rediss": "engine.transport.redis:RedisTransport",
    "redis+socket": "engine.transport.redis:RedisTransport",
    "sqlite": "engine.transport.sqlite:SqliteTransport",
    "memory": "engine.transport.memory:MemoryTransport",
}


@lru_cache(maxsize=64)
def transport_class(url: str) -> type[Transport]:
    """The transport for a URL's scheme. Raises ConfigurationError for one that is not known."""
    scheme = url.partition(":")[0].lower()
    if scheme.startswith("kombu+"):
        target = "engine.transport.kombu_bridge:KombuTransport"
    else:
        try:
            target = _SCHEMES[scheme]
        except KeyError:
            raise ConfigurationError(
                f"no transport for {mask_url(scheme)!r} in {mask_url(url)!r}: use one of "
                f"{', '.join(sorted(_SCHEMES))}, or kombu+<anything kombu speaks>"
            ) from None
    module, _, name = target.partition(":")
    cls: type[Transport] = getattr(import_module(module), name)
    return cls


def open_transport(url: str, options: TransportOptions | None = None) -> Transport:
    """Connect to the first broker of a failover list (``url1;url2``) that answers.

    Raises the last one's ConnectionFailed when none does."""
    return open_first(split_failover(url), transport_class, options)
