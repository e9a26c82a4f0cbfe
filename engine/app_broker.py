"""The app's second layer: its connections, to the broker and to the result store.

Rules: nothing connects before it is used; transports and stores that `open_transport` and `open_store` give
out belong to the caller; the app's own (`producer`, `pool`, `results`) are shared by its threads, or one a
thread where the thing is not, and are made anew in a forked process.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any

from engine.app_settings import AppSettings
from engine.broker_link import BrokerLink
from engine.errors import ContentDisallowed, ResultsDisabled
from engine.ids import new_id
from engine.model import QueueSpec
from engine.pool import Connection, ConnectionPool, LinkPool, ProducerPool
from engine.producer import Producer
from engine.results import DISABLED, ResultStore, open_store
from engine.serialization import JSON, accepted_types
from engine.settings import Settings
from engine.transport import Transport, TransportOptions, open_transport

#: broker_transport_options that TransportOptions names itself
_NAMED_OPTIONS = ("visibility_timeout", "confirm_timeout", "lease", "max_message_size", "client_name")


class AppBroker(AppSettings):
    """The second layer of an app; see the module's rules."""

    def __init__(self, keywords: Mapping[str, Any], source: Any, namespace: str | None) -> None:
        super().__init__(keywords, source, namespace)
        self._links: LinkPool | None = None
        self._producer: Producer | None = None
        self._stores = threading.local()
        self._rpc: bool | None = None

    def _settings_changed(self) -> None:
        super()._settings_changed()
        self._forget_connections()

    # -- the broker ------------------------------------------------------------------------------------

    def transport_options(self) -> TransportOptions:
        """What the settings say about connections."""
        conf = self.conf
        extra = dict(conf.broker_transport_options)
        named = {name: extra.pop(name) for name in _NAMED_OPTIONS if extra.get(name) is not None}
        return TransportOptions(
            **{
                "connect_timeout": conf.broker_connection_timeout,
                "heartbeat": conf.broker_heartbeat,
                "lease": conf.broker_lease,
                "max_message_size": conf.broker_max_message_size,
                "client_name": conf.broker_client_name,
                "ssl": conf.broker_use_ssl or None,
                **named,
            },
            extra=extra,
        )

    def open_transport(self, *, write: bool = False) -> Transport:
        """A new, connected transport of the caller's own. Raises ConnectionFailed."""
        return open_transport(self._url(write), self.transport_options())

    def _url(self, write: bool) -> str:
        conf = self.conf
        url: str = (conf.broker_write_url if write else conf.broker_read_url) or conf.broker_url
        return url

    def _new_link(self, url: str | None = None, write: bool = True) -> BrokerLink:
        return BrokerLink.with_options(url or self._url(write), self.transport_options())

    def connection(self, url: str | None = None, **_ignored: Any) -> Connection:
        """A connection of the caller's own, opened at its first use."""
        return Connection(self._new_link(url), confirms=self.conf.producer_confirms)

    connection_for_write = connection

    def connection_for_read(self, url: str | None = None, **_ignored: Any) -> Connection:
        """The same, to the broker that is read from."""
        return Connection(self._new_link(url, write=False), confirms=self.conf.producer_confirms)

    @property
    def links(self) -> LinkPool:
        links = self._links
        if links is None:
            with self._lock:
                if self._links is None:
                    conf = self.conf
                    self._links = LinkPool(
                        self._new_link, conf.broker_pool_limit, conf.broker_pool_acquire_timeout
                    )
                links = self._links
        return links

    @property
    def pool(self) -> ConnectionPool:
        """The connections of this process, kombu's way: ``with app.pool.acquire() as connection``."""
        return ConnectionPool(self.links, self.conf.producer_confirms)

    @property
    def producer_pool(self) -> ProducerPool:
        """Producers over the same connections: ``with app.producer_pool.acquire() as producer``."""
        conf = self.conf
        return ProducerPool(
            self.links,
            serializer=conf.task_serializer,
            confirms=conf.producer_confirms,
            timeout=conf.producer_timeout,
            queue_for=self._queue_for,
        )

    publisher_pool = producer_pool

    @property
    def producer(self) -> Producer:
        """The app's producer: over the pool, so threads may share it."""
        producer = self._producer
        if producer is None:
            conf = self.conf
            producer = self._producer = Producer(
                self.links,
                serializer=conf.task_serializer,
                confirms=conf.producer_confirms,
                timeout=conf.producer_timeout,
                queue_for=self._queue_for,
            )
        return producer

    def _queue_for(self, exchange: str, routing_key: str) -> QueueSpec | None:
        """The queue to declare before a finished message is published."""
        if exchange or not routing_key:
            return None
        return self.topology.known_queue(routing_key)

    # -- results ---------------------------------------------------------------------------------------

    @property
    def result_url(self) -> str | None:
        """Where results are kept: ``result_backend``, or beside an embedded broker; None when nowhere."""
        backend: str | None = self.conf.result_backend
        if backend is not None:
            return None if backend.lower() in DISABLED else backend
        url = self._url(True).partition(";")[0]
        return url if url.partition(":")[0] in ("sqlite", "memory") else None

    @property
    def rpc_results(self) -> bool:
        """Whether results come to this caller's own queue."""
        known = self._rpc
        if known is None:
            url = self.result_url
            known = self._rpc = url is not None and url.startswith("rpc")
        return known

    @property
    def thread_oid(self) -> str:
        """The name of this thread's reply queue (rpc results)."""
        mine = self._stores.__dict__
        if mine.get("oid_pid") != os.getpid():
            mine.update(oid=new_id(), oid_pid=os.getpid())
        return str(mine["oid"])

    oid = thread_oid

    def open_store(self, transport: Transport | None = None) -> ResultStore | None:
        """A new result store of the caller's own, or None when there are no results."""
        url = self.result_url
        if url is None:
            return None
        conf = self.conf
        return open_store(
            url,
            expires_s=conf.result_expires,
            transport=transport,
            transport_factory=self._open_for_results,
            oid=self.thread_oid,
            persistent=bool(conf.result_persistent),
            accept=self._result_content,
            redis_options=_redis_options(conf) if url.startswith("redis") else None,
        )

    @property
    def _result_content(self) -> tuple[str, ...]:
        conf = self.conf
        accept = conf.accept_content if conf.result_accept_content is None else conf.result_accept_content
        return tuple(accept)

    @property
    def readable_results(self) -> ResultStore:
        """`results`, for one who reads them. Raises ContentDisallowed when ``result_accept_content`` leaves
        out JSON, in which every store but rpc keeps them; there each reply tells its type."""
        if not self.rpc_results and JSON not in accepted_types(self._result_content):
            raise ContentDisallowed(
                "results are kept as JSON, which this app does not accept: "
                "add 'json' to result_accept_content (or to accept_content, which it follows)"
            )
        return self.results

    def _open_for_results(self) -> Transport:
        return self.open_transport(write=True)

    @property
    def results(self) -> ResultStore:
        """This thread's result store. Raises ResultsDisabled."""
        mine = self._stores.__dict__
        held: _HeldStore | None = mine.get("held")
        if held is None or held.pid != os.getpid():
            store = self.open_store()
            if store is None:
                raise ResultsDisabled(
                    "this app keeps no results: set result_backend (or ENGINE_RESULT_BACKEND) here and in "
                    "its workers, e.g. rpc:// with RabbitMQ, the broker's own URL with Redis, sqlite:///results.db"
                )
            held = mine["held"] = _HeldStore(store)
        return held.store

    backend = results

    # -- the end ---------------------------------------------------------------------------------------

    def _forget_connections(self) -> None:
        """Settings have changed: connect anew at the next use."""
        links, self._links = self._links, None
        self._producer = self._rpc = None
        self._stores = threading.local()
        if links is not None:
            links.close()

    def close(self) -> None:
        """Close what this process holds open. The app can be used again."""
        self._forget_connections()


class _HeldStore:
    """A thread's result store, closed when its thread ends or its app lets go of it."""

    def __init__(self, store: ResultStore) -> None:
        self.store = store
        self.pid = os.getpid()

    def __del__(self) -> None:
        if self.pid == os.getpid():
            self.store.close()


def _redis_options(conf: Settings) -> dict[str, Any]:
    options = {
        "key_prefix": conf.result_backend_transport_options.get("global_keyprefix", ""),
        "failure_expires_s": conf.result_failure_expires,
        "ssl": conf.redis_backend_use_ssl,
        "connect_timeout": conf.redis_socket_connect_timeout or conf.broker_connection_timeout,
    }
    if conf.redis_socket_timeout:
        options["reply_timeout"] = conf.redis_socket_timeout
    return options
