"""A call to the broker that an exception out of a signal handler cuts short, as a soft time limit does.

Its answer is still to come: nobody may take it for the answer to the next question."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from engine.errors import EngineError, QueueNotFound, Unroutable
from engine.model import QueueSpec
from engine.producer import Producer
from engine.results.base import ResultMeta
from engine.results.redis import RedisStore
from engine.transport import open_transport


class _TooLongError(Exception):
    pass


@contextmanager
def _cut_short(server: Any) -> Iterator[None]:
    """The server is silent, and the handler of a timer raises."""

    def fire(_signum: int, _frame: FrameType | None) -> None:
        raise _TooLongError

    before = signal.signal(signal.SIGALRM, fire)
    server.signal(signal.SIGSTOP)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(_TooLongError):
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        server.signal(signal.SIGCONT)


@pytest.fixture(
    params=[
        pytest.param("rabbitmq", marks=pytest.mark.amqp),
        pytest.param("redis_server", marks=pytest.mark.redis),
    ]
)
def server(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def test_a_publish(server: Any, unique: str) -> None:
    with Producer(server.url) as producer:
        producer.maybe_declare(QueueSpec(unique))
        with _cut_short(server):
            producer.publish("one", unique)
        producer.publish("two", unique)
        with pytest.raises(Unroutable):
            producer.publish("three", f"{unique}-missing")
        producer.publish("four", unique)
    transport = open_transport(server.url)
    transport.delete_queue(unique)
    transport.close()


def test_a_question(server: Any, unique: str) -> None:
    transport = open_transport(server.url)
    transport.declare(QueueSpec(unique))
    with _cut_short(server):
        transport.queue_state(unique)
    with pytest.raises((EngineError, QueueNotFound)):
        transport.queue_state(f"{unique}-missing")
    transport.reconnect()
    with pytest.raises(QueueNotFound):
        transport.queue_state(f"{unique}-missing")
    assert transport.queue_state(unique).name == unique
    transport.delete_queue(unique)
    transport.close()


@pytest.mark.redis
def test_a_result_is_not_taken_for_another(redis_server: Any, unique: str) -> None:
    store = RedisStore(redis_server.url)
    store.store([ResultMeta(f"{unique}-1", "SUCCESS", 1), ResultMeta(f"{unique}-2", "SUCCESS", 2)])
    with _cut_short(redis_server):
        store.get(f"{unique}-1")
    found = store.get(f"{unique}-2")
    assert found is not None
    assert found.result == 2
    store.close()
