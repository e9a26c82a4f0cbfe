"""A worker on a Redis that is reached in another way: by a Unix socket, over TLS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.app import Engine
from engine.errors import ConnectionFailed
from tests.worker.conftest import Place
from tools.brokers import Redis

pytestmark = pytest.mark.redis


@pytest.fixture
def socket_path(tmp_path: Path) -> Iterator[str]:
    """The Unix socket of a Redis of this test's own."""
    path = str(tmp_path / "redis.sock")
    server = Redis(tmp_path / "own", {"unixsocket": path})
    server.start()
    yield path
    server.stop()


def test_broker_and_results_behind_a_unix_socket(socket_path: str, tmp_path: Path, unique: str) -> None:
    url = f"redis+socket://{socket_path}?virtual_host=2"
    place = Place(url, url, unique, tmp_path)
    with place.worker() as worker:
        assert [place.send("add", n, n).get(timeout=20) for n in range(3)] == [0, 2, 4]
        assert f"broker   {url}" in worker.log()
        assert worker.stop() == 0
    place.close()


def test_results_over_tls(redis_server: Redis, unique: str, tmp_path: Path) -> None:
    """redis_backend_use_ssl concerns the result store alone: the broker is reached without."""
    backend = f"redis://localhost:{redis_server.tls_port}/0"
    place = Place(redis_server.url, backend, unique, tmp_path)
    ssl = {"ssl_cert_reqs": "required", "ssl_ca_certs": redis_server.cafile}
    place.environ["ENGINE_REDIS_BACKEND_USE_SSL"] = json.dumps(ssl)
    place.app.conf.redis_backend_use_ssl = ssl
    with place.worker() as worker:
        assert place.send("add", 1, 2).get(timeout=20) == 3
        assert worker.stop() == 0
    place.close()
    stranger = Engine(broker="memory://", backend=backend, redis_backend_use_ssl=True, set_as_current=False)
    with pytest.raises(ConnectionFailed, match="certificate verify failed"):
        stranger.results.get("x")
