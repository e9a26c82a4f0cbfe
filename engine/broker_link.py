"""One lazily opened connection of this process to the broker, and what has been declared on it.

Rules: one thread at a time (whoever uses a link holds it, by its lock or out of a pool); opened at first use;
opened anew in a forked process; a queue or exchange is declared once a connection. `engine.producer` and
`engine.consumer` do the talking.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

from engine import forks
from engine.errors import ConnectionLost, TransportClosed
from engine.model import ExchangeSpec, QueueSpec
from engine.transport import Transport, TransportOptions, mask_url, open_transport

#: errors after which the connection is not used again, and nothing is known to have been sent
BROKEN = (ConnectionLost, TransportClosed)


class BrokerLink:
    """A way to the broker that opens itself when it is used."""

    __slots__ = ("__weakref__", "_declared", "_last_declared", "_open", "_pid", "_transport", "lock", "url")

    def __init__(self, url: str, open_now: Callable[[], Transport] | None = None) -> None:
        self.url = url
        self.lock = threading.RLock()
        self._open = open_now or (lambda: open_transport(url))
        self._transport: Transport | None = None
        self._declared: set[Any] = set()
        self._last_declared: Sequence[Any] | None = None
        self._pid = 0

    @classmethod
    def to(cls, target: Any) -> BrokerLink:
        """A link out of a URL, an open transport, an app, a connection, or a link.

        Raises TypeError for anything else."""
        if isinstance(target, cls):
            return target
        if isinstance(target, str):
            return cls(target)
        if isinstance(target, Transport):
            return _borrowed(target)
        inner = getattr(target, "link", None)
        if isinstance(inner, cls):
            return inner
        if hasattr(target, "open_transport"):
            return cls(target.conf.broker_write_url or target.conf.broker_url, target.open_transport)
        raise TypeError(
            f"need a broker URL, an app, a connection or a transport, not {type(target).__name__}"
        )

    @classmethod
    def with_options(cls, url: str, options: TransportOptions) -> BrokerLink:
        return cls(url, lambda: open_transport(url, options))

    def __repr__(self) -> str:
        return f"<BrokerLink {mask_url(self.url)} {'open' if self.connected else 'closed'}>"

    @property
    def connected(self) -> bool:
        return self._transport is not None and self._pid == os.getpid() and self._transport.connected

    @property
    def opened(self) -> bool:
        """Whether this process has opened a connection, which may have broken since."""
        return self._transport is not None and self._pid == os.getpid()

    @property
    def transport(self) -> Transport:
        """The open transport; connects when there is none. Raises ConnectionFailed."""
        transport = self._transport
        if transport is None or self._pid != os.getpid():
            self._forget_declared()
            transport = self._transport = self._open()
            self._pid = os.getpid()
        return transport

    def reconnect(self) -> Transport:
        """A new connection in place of a broken one. Raises ConnectionFailed."""
        self.drop()
        return self.transport

    def drop(self) -> None:
        """Forget a broken connection without a word to the broker."""
        transport, self._transport = self._transport, None
        self._forget_declared()
        if transport is not None:
            transport.abandon()

    def close(self) -> None:
        """Close the connection, if this process opened one. Never raises."""
        transport, self._transport = self._transport, None
        self._forget_declared()
        if transport is not None and self._pid == os.getpid():
            transport.close()

    def ready(self, entities: Sequence[QueueSpec | ExchangeSpec]) -> Transport:
        """The open transport, with all of them declared on it. Raises ConnectionFailed, TransportError."""
        transport = self._transport
        if transport is None or self._pid != forks.pid:
            transport = self.transport
        if (
            entities is not self._last_declared
        ):  # nearly always the very same ones: this runs for every publish
            self.declare_all(entities)
            self._last_declared = entities if isinstance(entities, tuple) else None
        return transport

    def _forget_declared(self) -> None:
        self._declared = set()
        self._last_declared = None

    def declare_all(self, entities: Sequence[QueueSpec | ExchangeSpec]) -> None:
        """Declare those that were not declared on this connection before."""
        transport = self.transport
        for entity in entities:
            if isinstance(entity, QueueSpec):
                if entity.name not in self._declared and not entity.no_declare:
                    transport.declare(entity)
                self._declared.add(entity.name)
            elif entity.name and ("exchange", entity.name) not in self._declared:
                transport.declare_exchange(entity)
                self._declared.add(("exchange", entity.name))

    def forget(self, entities: Sequence[QueueSpec | ExchangeSpec]) -> None:
        """They may be gone: declare them again before their next use."""
        self._last_declared = None
        for entity in entities:
            self._declared.discard(entity.name)
            self._declared.discard(("exchange", entity.name))


def _borrowed(transport: Transport) -> BrokerLink:
    def lend() -> Transport:
        if not transport.connected:
            transport.reconnect()
        return transport

    return BrokerLink(transport.url, lend)
