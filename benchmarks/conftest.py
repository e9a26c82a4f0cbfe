"""Prints what was measured; skips what needs a broker where none can be had, except in CI."""

from __future__ import annotations

import os
from typing import Any

import pytest

from benchmarks.ratio import RATIOS
from tools import brokers
from tools.brokers import RabbitMQ, Redis


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if RATIOS:
        terminalreporter.section("a message, and its reference in the same run")
    for ratio in RATIOS:
        terminalreporter.write_line(str(ratio))


def _server(kind: str) -> Any:
    try:
        return brokers.start(kind)
    except brokers.BrokerUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def rabbitmq() -> RabbitMQ:
    server: RabbitMQ = _server("rabbitmq")
    return server


@pytest.fixture(scope="session")
def redis() -> Redis:
    server: Redis = _server("redis")
    return server
