"""Fixtures every test may use: private brokers, and free names on them.

The servers are those of ``python -m tools.brokers start`` when they run, or, where the tests run in several
processes, those that were started for this one; else they are started for this session and stopped after it.
Locally a broker that can't be had skips its tests with a word; with CI=true it fails them.
"""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.alone import Alone
from tools import brokers
from tools.brokers import BrokerUnavailable, RabbitMQ, Redis
from tools.server import Server

#: "gw0", "gw1", ...: the process of pytest-xdist that this is; "" without it
PROCESS = os.environ.get("PYTEST_XDIST_WORKER", "")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Alone())


def _unavailable(error: BrokerUnavailable) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"CI needs this broker: {error}", pytrace=False)
    pytest.skip(str(error))


def _session_server(kind: str, folder: Path) -> Iterator[Server]:
    server = brokers.running(kind, PROCESS)
    if server is not None:
        yield server
        return
    try:
        server = brokers.KINDS[kind](folder)
        server.start()
    except BrokerUnavailable as error:
        _unavailable(error)
        return
    yield server
    server.stop()


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """A RabbitMQ shared by the session: use names of your own (``unique``)."""
    yield from _session_server("rabbitmq", tmp_path_factory.mktemp("rabbitmq"))  # type: ignore[misc]


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[RabbitMQ]:
    """A RabbitMQ of the test's own, which may be put into alarm, stopped and killed."""
    broker = RabbitMQ(tmp_path)
    try:
        broker.start()
    except BrokerUnavailable as error:
        _unavailable(error)
        return
    try:
        yield broker
    finally:
        broker.signal(signal.SIGCONT)
        broker.stop()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A Redis shared by the session: use names of your own (``unique``)."""
    yield from _session_server("redis", tmp_path_factory.mktemp("redis"))  # type: ignore[misc]


@pytest.fixture
def unique() -> str:
    """A name nobody else uses, for queues and files."""
    return f"t-{uuid.uuid4().hex[:12]}"
