"""The connections of one process: a pool of links, and kombu's faces of them.

Rules: taking an idle link costs one ``deque.pop``; no more than ``limit`` are open; a forked process starts
with an empty pool; all of it is safe to use from several threads.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from engine.broker_link import BrokerLink
from engine.errors import ConnectionFailed
from engine.producer import Producer
from engine.publish_retry import RetryPolicy
from engine.transport import Transport, mask_url

T = TypeVar("T")


class LinkPool:
    """Links that open themselves; the last one given back is the next one taken."""

    def __init__(
        self, make: Callable[[], BrokerLink], limit: int | None = 10, wait_s: float | None = None
    ) -> None:
        self._make = make
        self.limit = limit or 0  #: 0 keeps none open: each use opens and closes one
        self._wait_s = wait_s
        self._reset()
        _pools.add(weakref.ref(self, _pools.discard))

    def _reset(self) -> None:
        self._idle: deque[BrokerLink] = deque()
        self._freed = threading.Condition()
        self._count = 0
        self._waiting = 0

    def take(self, block: bool = True, timeout: float | None = None) -> BrokerLink:
        """A link, open or not yet. Raises ConnectionFailed when all stay in use."""
        try:
            return self._idle.pop()
        except IndexError:
            return self._take_slowly(block, self._wait_s if timeout is None else timeout)

    def give(self, link: BrokerLink) -> None:
        """Give a link back."""
        if self.limit == 0 or self._count > self.limit:
            self._discard(link)
        else:
            self._idle.append(link)
        if self._waiting:
            with self._freed:
                self._freed.notify()

    def _take_slowly(self, block: bool, timeout: float | None) -> BrokerLink:
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._freed:
            self._waiting += 1
            try:
                while True:
                    if self._idle:
                        try:
                            return self._idle.pop()
                        except IndexError:
                            continue
                    if self.limit == 0 or self._count < self.limit:
                        self._count += 1
                        return self._make()
                    left = None if deadline is None else deadline - time.monotonic()
                    if not block or (left is not None and left <= 0) or not self._freed.wait(left):
                        raise ConnectionFailed(
                            f"all {self.limit} connections of the pool are in use: "
                            f"raise broker_pool_limit, or give them back sooner"
                        )
            finally:
                self._waiting -= 1

    def _discard(self, link: BrokerLink) -> None:
        with self._freed:
            self._count -= 1
        link.close()

    def resize(self, limit: int | None) -> None:
        """Allow more or fewer; those over the limit are closed when they come back."""
        self.limit = limit or 0
        while self._idle and self._count > self.limit:
            try:
                self._discard(self._idle.pop())
            except IndexError:
                break
        with self._freed:
            self._freed.notify_all()

    def close(self) -> None:
        """Close the idle links; those in use are closed when they come back."""
        with self._freed:
            idle, self._idle = self._idle, deque()
            self._count -= len(idle)
        for link in idle:
            link.close()

    @property
    def exhausted(self) -> bool:
        """Whether all are in use, so that `take` has to wait."""
        return not self._idle and 0 < self.limit <= self._count

    @property
    def in_use(self) -> int:
        return self._count - len(self._idle)


#: no WeakSet: a forked process would run its Python, and have copies of that memory
_pools: set[weakref.ref[LinkPool]] = set()


def _empty_after_fork() -> None:
    for known in list(_pools):
        if (pool := known()) is not None:
            pool._reset()


os.register_at_fork(after_in_child=_empty_after_fork)


class Connection:
    """A connection with kombu's face. A context manager: leaving it releases it."""

    def __init__(self, link: BrokerLink, pool: LinkPool | None = None, *, confirms: bool = True) -> None:
        self.link = link
        self._pool = pool
        self._confirms = confirms

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<Connection: {self.as_uri()} {'open' if self.connected else 'closed'}>"

    @property
    def connected(self) -> bool:
        return self.link.connected

    @property
    def transport(self) -> Transport:
        """The open transport."""
        return self.link.transport

    @property
    def default_channel(self) -> Connection:
        return self

    def channel(self) -> Connection:
        """AMQP channels are the transport's own business: every channel is the connection itself."""
        return self

    def connect(self) -> Transport:
        """Open it now. Raises ConnectionFailed."""
        return self.link.transport

    def ensure_connection(
        self,
        errback: Callable[[Exception, float], Any] | None = None,
        max_retries: int | None = None,
        interval_start: float = 2,
        interval_step: float = 2,
        interval_max: float = 30,
        timeout: float | None = None,
        **_ignored: Any,
    ) -> Connection:
        """Open it, trying again with growing pauses. ``errback(error, pause)`` hears of every failure."""
        policy = RetryPolicy(max_retries or None, interval_start, interval_step, interval_max)
        deadline = None if timeout is None else time.monotonic() + timeout
        retries = 0
        while True:
            try:
                self.link.transport  # noqa: B018 - opens it
                return self
            except ConnectionFailed as error:
                pause = policy.pause_s(retries)
                late = deadline is not None and time.monotonic() + pause > deadline
                if late or not policy.allows(retries) or not policy.applies_to(error):
                    raise
                if errback is not None:
                    errback(error, pause)
            time.sleep(pause)
            retries += 1

    def release(self) -> None:
        """Give it back to its pool; close it when it has none."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.give(self.link)
        else:
            self.link.close()

    close = release

    def as_uri(self, include_password: bool = False) -> str:
        """The URL; the password is hidden unless it is asked for."""
        return self.link.url if include_password else mask_url(self.link.url)

    def Producer(self, channel: Any = None, *args: Any, **options: Any) -> Producer:  # noqa: N802 - kombu's name
        """A producer on this connection."""
        return Producer(self, *args, **{"confirms": self._confirms, **options})

    def Consumer(self, queues: Any = None, channel: Any = None, **options: Any) -> Any:  # noqa: N802
        """A consumer on this connection."""
        from engine.consumer import Consumer

        return Consumer(self, queues, **options)


class _Pool(Generic[T]):
    """What both pools of kombu have in common."""

    def __init__(self, links: LinkPool, wrap: Callable[[BrokerLink], T]) -> None:
        self.links = links
        self._wrap = wrap

    def acquire(self, block: bool = False, timeout: float | None = None) -> T:
        """One out of the pool; as a context manager it goes back by itself. Raises ConnectionFailed."""
        return self._wrap(self.links.take(block, timeout))

    def release(self, resource: Any) -> None:
        resource.release()

    def resize(self, limit: int | None, **_ignored: Any) -> None:
        self.links.resize(limit)

    def force_close_all(self, **_ignored: Any) -> None:
        self.links.close()

    @property
    def limit(self) -> int:
        return self.links.limit


class ConnectionPool(_Pool[Connection]):
    """kombu's connection pool."""

    def __init__(self, links: LinkPool, confirms: bool = True) -> None:
        super().__init__(links, lambda link: Connection(link, links, confirms=confirms))


class PooledProducer(Producer):
    """A producer out of the pool: closing it gives its connection back."""

    def __init__(self, link: BrokerLink, pool: LinkPool, **options: Any) -> None:
        self.connection = Connection(link, pool)
        super().__init__(self.connection, **options)

    def close(self) -> None:
        self.connection.release()

    release = close


class ProducerPool(_Pool[PooledProducer]):
    """kombu's producer pool."""

    def __init__(self, links: LinkPool, **options: Any) -> None:
        super().__init__(links, lambda link: PooledProducer(link, links, **options))
