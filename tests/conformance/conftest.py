"""One fixture, `backend`, for every broker: ``pytest tests/conformance -k redis`` runs one of them.

What a broker can't do it says in its Capabilities; a test that needs it is skipped with that word.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.model import QueueSpec
from engine.transport import Transport
from tests.conformance.backends import NAMES, TLS_NAMES, Backend

_MARKS = {
    "amqp": (pytest.mark.amqp,),
    "amqps": (pytest.mark.amqp,),
    "redis": (pytest.mark.redis,),
    "rediss": (pytest.mark.redis,),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every broker, and those over TLS for a test that is marked so."""
    if "backend" in metafunc.fixturenames:
        over_tls = metafunc.definition.get_closest_marker("over_tls") is not None
        names = NAMES + TLS_NAMES if over_tls else NAMES
        params = [pytest.param(name, marks=_MARKS.get(name, ())) for name in names]
        metafunc.parametrize("backend", params, indirect=True)


@pytest.fixture
def backend(request: pytest.FixtureRequest, tmp_path: Path, unique: str) -> Iterator[Backend]:
    """The broker under test."""
    name = request.param
    if name in ("amqp", "amqps"):
        server = request.getfixturevalue("rabbitmq")
        made = Backend(name, server.url if name == "amqp" else server.amqps_url, unique)
    elif name in ("redis", "rediss"):
        # kombu's layout has it the other way round: 0 is the most urgent
        server = request.getfixturevalue("redis_server")
        url = server.url if name == "redis" else server.rediss_url
        made = Backend(name, url, unique, most_urgent=0, least_urgent=9)
    elif name == "sqlite":
        made = Backend(name, f"sqlite:///{tmp_path}/broker.db", unique)
    elif name == "memory":
        made = Backend(name, f"memory://{unique}", unique)
    else:
        made = Backend(name, "kombu+memory://", unique)
    if name in TLS_NAMES:
        made.options["ssl"] = {"ca_certs": server.cafile}
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
