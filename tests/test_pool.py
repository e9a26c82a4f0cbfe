"""The pool of connections: limits, waiting, forks, and kombu's faces of it."""

from __future__ import annotations

import os
import threading
import time

import pytest

from engine.app import Engine
from engine.broker_link import BrokerLink
from engine.errors import ConnectionFailed
from engine.model import QueueSpec
from engine.pool import LinkPool
from tests.forked import in_child


@pytest.fixture
def app(unique: str) -> Engine:
    return Engine("pool", broker=f"memory://{unique}", backend="disabled", broker_pool_limit=2)


def make_pool(limit: int | None = 2, wait_s: float | None = None) -> LinkPool:
    return LinkPool(lambda: BrokerLink("memory://pool"), limit, wait_s)


def test_the_last_given_back_is_taken_next() -> None:
    pool = make_pool()
    first, second = pool.take(), pool.take()
    pool.give(first)
    pool.give(second)
    assert pool.take() is second
    assert pool.in_use == 1


def test_no_more_than_the_limit() -> None:
    pool = make_pool(limit=1)
    pool.take()
    with pytest.raises(ConnectionFailed, match="all 1 connections of the pool are in use"):
        pool.take(block=False)
    started = time.monotonic()
    with pytest.raises(ConnectionFailed):
        pool.take(timeout=0.1)
    assert 0.09 < time.monotonic() - started < 5


def test_whoever_waits_gets_what_is_given_back() -> None:
    pool, got = make_pool(limit=1), []
    link = pool.take()
    waiter = threading.Thread(target=lambda: got.append(pool.take(timeout=20)))
    waiter.start()
    while not pool._waiting:
        time.sleep(0.001)
    pool.give(link)
    waiter.join(20)
    assert got == [link]


def test_many_threads_never_hold_more_than_the_limit() -> None:
    pool, most, lock, held = make_pool(limit=3), [0], threading.Lock(), [0]

    def work() -> None:
        for _ in range(200):
            link = pool.take()
            with lock:
                held[0] += 1
                most[0] = max(most[0], held[0])
            with lock:
                held[0] -= 1
            pool.give(link)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert most[0] <= 3
    assert pool.in_use == 0


def test_without_a_limit_nothing_is_kept_open() -> None:
    pool = make_pool(limit=0)
    link = pool.take()
    assert link.transport.connected
    pool.give(link)
    assert not link.connected


def test_resize_and_close() -> None:
    pool = make_pool(limit=2)
    links = [pool.take(), pool.take()]
    for link in links:
        assert link.transport.connected
    pool.resize(1)
    for link in links:
        pool.give(link)
    assert sum(link.connected for link in links) == 1
    pool.close()
    assert not any(link.connected for link in links)
    assert pool.take(block=False) is not None


def test_kombus_pool_of_connections(app: Engine) -> None:
    with app.pool.acquire(block=True) as connection:
        connection.ensure_connection()
        assert connection.connected
        assert connection.default_channel is connection
        inner = connection.link
    with app.pool.acquire() as again:
        assert again.link is inner
    app.pool.force_close_all()
    assert not inner.connected


def test_kombus_pool_of_producers(app: Engine) -> None:
    with app.producer_pool.acquire(block=True) as producer:
        producer.publish({"a": 1}, routing_key="q", declare=[QueueSpec("q")])
        with producer.connection.Consumer(["q"]) as consumer:
            message = consumer.get()
            assert message is not None
            assert message.payload == {"a": 1}
    assert app.links.in_use == 0


def test_a_connection_hides_its_password() -> None:
    app = Engine("pool", broker="amqp://me:canary@nowhere//")
    assert app.connection().as_uri() == "amqp://me:**@nowhere//"
    assert "canary" not in repr(app.connection())
    assert "canary" in app.connection().as_uri(include_password=True)


def test_ensure_connection_gives_up() -> None:
    heard: list[float] = []
    with pytest.raises(ConnectionFailed):
        Engine("pool", broker="amqp://127.0.0.1:1//").connection().ensure_connection(
            lambda error, pause: heard.append(pause), max_retries=2, interval_start=0, interval_step=0.01
        )
    assert heard == [0.0, 0.01]


def test_a_forked_process_starts_with_an_empty_pool(app: Engine) -> None:
    link = app.links.take()
    assert link.transport.connected
    app.links.give(link)

    def child() -> bool:
        fresh = app.links.take()
        return fresh is not link and app.links.in_use == 1 and fresh.transport.connected

    assert in_child(child)
    assert app.links.take() is link
    assert link.connected


def test_a_link_that_a_child_inherits_opens_its_own(app: Engine) -> None:
    link = app.links.take()
    parents = link.transport

    assert in_child(lambda: link.transport is not parents and link.transport.connected)
    assert link.transport is parents
    assert os.getpid() == link.transport._pid
