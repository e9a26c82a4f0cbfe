"""One fixture, `backend`, for every broker: ``pytest tests/conformance -k redis`` runs one of them.

What a broker can't do it says in its Capabilities; a test that needs it is skipped with that word.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.model import QueueSpec
from engine.transport import Transport
from tests.conformance.backends import NAMES, Backend

_MARKS = {"amqp": (pytest.mark.amqp,), "redis": (pytest.mark.redis,)}


@pytest.fixture(params=[pytest.param(name, marks=_MARKS.get(name, ())) for name in NAMES])
def backend(request: pytest.FixtureRequest, tmp_path: Path, unique: str) -> Iterator[Backend]:
    """The broker under test."""
    name = request.param
    if name == "amqp":
        made = Backend(name, request.getfixturevalue("rabbitmq").url, unique)
    elif name == "redis":
        # kombu's layout has it the other way round: 0 is the most urgent
        url = request.getfixturevalue("redis_server").url
        made = Backend(name, url, unique, most_urgent=0, least_urgent=9)
    elif name == "sqlite":
        made = Backend(name, f"sqlite:///{tmp_path}/broker.db", unique)
    elif name == "memory":
        made = Backend(name, f"memory://{unique}", unique)
    else:
        made = Backend(name, "kombu+memory://", unique)
    yield made
    made.clean()


@pytest.fixture
def transport(backend: Backend) -> Transport:
    """A connected transport."""
    return backend.open()


@pytest.fixture
def queue(backend: Backend, transport: Transport) -> QueueSpec:
    """A declared queue."""
    spec = backend.queue()
    transport.declare(spec)
    return spec
