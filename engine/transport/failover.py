"""Failover lists: the first broker that answers wins, and the next try begins with the one after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from engine.errors import AccessRefused, ConnectionFailed
from engine.transport.base import Transport, TransportOptions


def open_first(
    urls: Sequence[str],
    class_of: Callable[[str], type[Transport]],
    options: TransportOptions | None = None,
) -> Transport:
    """Connect to the first of ``urls`` that answers; raises the last error when none does.

    A broker that refuses the credentials is not the end: the next may accept them. ``class_of`` gives a URL's
    transport."""
    failure = ConnectionFailed("no broker URL was given")
    for url in urls:
        transport = class_of(url)(url, options)
        try:
            transport.connect()
        except (ConnectionFailed, AccessRefused) as error:
            transport.abandon()
            failure = error
        else:
            return transport
    raise failure
