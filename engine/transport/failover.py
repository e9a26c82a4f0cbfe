"""Failover lists: the first broker that answers wins, and the next try begins with the one after it."""

from __future__ import annotations

from collections.abc import Sequence

from engine.errors import AccessRefused, ConnectionFailed
from engine.transport.base import Transport, TransportOptions


def open_first(urls: Sequence[str], options: TransportOptions | None = None) -> Transport:
    """Connect to the first of ``urls`` that answers; raises the last error when none does.

    A broker that refuses the credentials is not the end: the next may accept them."""
    from engine.transport import transport_class

    failure = ConnectionFailed("no broker URL was given")
    for url in urls:
        transport = transport_class(url)(url, options)
        try:
            transport.connect()
        except (ConnectionFailed, AccessRefused) as error:
            transport.abandon()
            failure = error
        else:
            return transport
    raise failure
