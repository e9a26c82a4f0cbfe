"""Connections to Redis: addresses, logging in, TLS, and what a broken or foreign peer does to them."""

from __future__ import annotations

import logging
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

from engine.errors import AccessRefused, ConfigurationError, ConnectionFailed, ConnectionLost, MissingExtra
from engine.transport import TransportOptions
from engine.transport.redis import RedisTransport
from engine.transport.redis_address import RedisAddress
from engine.transport.redis_layout import Layout
from engine.transport.redis_wire import RedisWire, pack
from tests.test_public_names import modules_after
from tests.transport.redis_support import bodies, desk_at, put, take
from tools.brokers import Redis
from tools.certificates import Certificates

pytestmark = pytest.mark.redis

PASSWORD = "canary-secret"


# -- addresses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://", RedisAddress()),
        ("redis://host", RedisAddress("host")),
        ("redis://host:7000/3", RedisAddress("host", 7000, 3)),
        ("redis://host/?virtual_host=4", RedisAddress("host", db=4)),
        ("redis://:p%40ss@host", RedisAddress("host", password="p@ss")),
        ("redis://me:pass@[::1]:1/2", RedisAddress("::1", 1, 2, "me", "pass")),
        ("redis+socket:///run/redis.sock?virtual_host=2", RedisAddress(unix_path="/run/redis.sock", db=2)),
    ],
)
def test_addresses(url: str, expected: RedisAddress) -> None:
    assert RedisAddress.parse(url) == expected


@pytest.mark.parametrize(
    "url", ["redis://host/name", "sentinel://host", "http://host", "rediss://h?ssl_cert_reqs=x"]
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(ConfigurationError):
        RedisAddress.parse(url)


def test_no_password_is_shown() -> None:
    address = RedisAddress.parse(f"redis://me:{PASSWORD}@host/1")
    assert PASSWORD not in f"{address} {address!r}"
    with pytest.raises(ConfigurationError) as caught:
        RedisAddress.parse(f"redis://me:{PASSWORD}@host/name")
    assert PASSWORD not in str(caught.value)


def test_switching_verification_off_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="engine.transport.redis"):
        RedisAddress.parse(f"rediss://:{PASSWORD}@host?ssl_cert_reqs=CERT_NONE")
    assert "does not verify" in caplog.text
    assert PASSWORD not in caplog.text


def test_priority_steps() -> None:
    def layout(steps: list[int]) -> Layout:
        return Layout.of(TransportOptions(extra={"priority_steps": steps, "sep": ":"}), 0)

    assert layout([0, 5]).lists_of(["q"]) == ["q", "q:5"]
    assert [layout([0, 5]).list_for("q", priority) for priority in (None, 4, 5, 99)] == [
        "q",
        "q",
        "q:5",
        "q:5",
    ]
    for wrong in ([1, 2], [0, 3, 2], [0, 0]):
        with pytest.raises(ConfigurationError, match="priority_steps"):
            layout(wrong)


# -- logging in ------------------------------------------------------------------------------------------


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Redis]:
    """A Redis with a password, on a Unix socket too."""
    config = {
        "requirepass": PASSWORD,
        "unixsocket": str(tmp_path / "redis.sock"),
        "maxmemory-policy": "allkeys-lru",
    }
    server = Redis(tmp_path / "own", config)
    server.answers = lambda: _listens(server.port)  # type: ignore[method-assign]
    server.start()
    yield server
    server.stop()


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def test_logging_in(guarded: Redis, unique: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(AccessRefused) as refused:
        RedisTransport(guarded.url).connect()
    assert "password" in str(refused.value)
    wrong = guarded.url.replace("//", "//:wrong-secret@")
    with pytest.raises(AccessRefused) as refused:
        RedisTransport(wrong).connect()
    assert "wrong-secret" not in str(refused.value)
    with caplog.at_level(logging.WARNING, logger="engine.transport.redis"):
        for url in (
            guarded.url.replace("//", f"//:{PASSWORD}@"),
            f"redis+socket://:{PASSWORD}@{tmp_path}/redis.sock?virtual_host=0",
        ):
            transport = RedisTransport(url, TransportOptions(client_name="a name"))
            transport.connect()
            assert "append-only" in transport.durability
            transport.close()
    assert caplog.text.count("allkeys-lru") in (1, 2)
    assert PASSWORD not in caplog.text


def test_a_database_that_is_not_there(redis_server: Redis) -> None:
    with pytest.raises(ConnectionFailed, match="database 9999"):
        RedisTransport(redis_server.url.replace("/0", "/9999")).connect()


def test_a_missing_package_is_named(redis_server: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hiredis", None)
    with pytest.raises(MissingExtra, match="install engine's extra 'redis'"):
        RedisTransport(redis_server.url).connect()


def test_openssl_is_left_alone_without_tls(redis_server: Redis) -> None:
    code = f"""
from engine.results.redis import RedisStore
from engine.transport.redis import RedisTransport
transport = RedisTransport({redis_server.url!r})
transport.connect()
RedisStore({redis_server.url!r}).get("nothing")
transport.close()
"""
    loaded = modules_after(code)
    assert "hiredis" in loaded
    assert loaded & {"ssl", "_ssl", "_hashlib"} == set()


def test_nobody_there() -> None:
    with pytest.raises(ConnectionFailed, match=r"127\.0\.0\.1:1"):
        RedisTransport("redis://127.0.0.1:1").connect()


# -- TLS -------------------------------------------------------------------------------------------------


def test_tls_carries_everything(redis_server: Redis, unique: str) -> None:
    url = f"{redis_server.rediss_url}?ssl_ca_certs={redis_server.cafile}&ssl_cert_reqs=required"
    with desk_at(redis_server.url, unique) as desk:
        queue = desk.queue()
        transport = desk.open(url)
        put(transport, queue, "a" * 300_000, "b")
        transport.consume([queue], 10)
        held = take(transport, 2)
        assert [len(body) for body in bodies(held)] == [300_000, 1]
        transport.ack(held)
        timer = threading.Timer(0.1, desk.raw.lpush, (queue, b"not json"))
        timer.start()
        assert take(transport, 1)[0].body == b"not json"
        timer.join()


def test_tls_refuses_who_it_does_not_know(redis_server: Redis, tmp_path: Path) -> None:
    stranger = Certificates(tmp_path / "stranger")
    with pytest.raises(ConnectionFailed, match="certificate verify failed"):
        RedisTransport(f"{redis_server.rediss_url}?ssl_ca_certs={stranger.ca}").connect()
    with pytest.raises(ConnectionFailed, match="certificate verify failed"):
        RedisTransport(redis_server.rediss_url).connect()


def test_tls_refuses_the_certificate_of_another_host(tmp_path: Path) -> None:
    server = Redis(tmp_path / "own")
    tls = server.certificates
    server.config = {
        "tls-cert-file": str(tls.other_host_certificate),
        "tls-key-file": str(tls.other_host_key),
    }
    server.start()
    try:
        with pytest.raises(ConnectionFailed, match="Hostname mismatch"):
            RedisTransport(f"{server.rediss_url}?ssl_ca_certs={server.cafile}").connect()
    finally:
        server.stop()


# -- peers that are no Redis -----------------------------------------------------------------------------


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def _wire(listening: socket.socket, **options: float) -> RedisWire:
    return RedisWire(RedisAddress(port=listening.getsockname()[1]), connect_timeout=0.5, **options)


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"-ERR unknown command 'HELLO'\r\n" * 3]
)
def test_no_redis_there(peer: socket.socket, answer: bytes) -> None:
    def serve() -> None:
        connection, _ = peer.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    wire = _wire(peer)
    with pytest.raises(ConnectionFailed, match=r"127\.0\.0\.1"):
        wire.connect()
    assert not wire.connected
    thread.join()


@pytest.mark.parametrize(
    ("greeting", "told"),
    [
        ({"mode": "cluster"}, "Cluster"),
        ({"role": "replica"}, "replica"),
        ({"server": "redis", "version": "6.0.9"}, "too old"),
    ],
)
def test_servers_that_cannot_keep_queues(peer: socket.socket, greeting: dict[str, str], told: str) -> None:
    words = b"".join(
        b"$%d\r\n%b\r\n" % (len(word), word.encode()) for pair in greeting.items() for word in pair
    )

    def serve() -> None:
        connection, _ = peer.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"%%%d\r\n%b+OK\r\n+OK\r\n" % (len(greeting), words))
            connection.recv(65536)

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(ConnectionFailed, match=told):
        _wire(peer).connect()
    thread.join()


def test_a_silent_peer(peer: socket.socket) -> None:
    with pytest.raises(ConnectionFailed, match="no answer in time"):
        _wire(peer).connect()


def test_signals_do_not_stretch_a_wait(redis_server: Redis) -> None:
    wire = RedisWire(RedisAddress.parse(redis_server.url), reply_timeout=1.5)
    wire.connect()
    before = signal.signal(signal.SIGALRM, lambda _number, _frame: None)
    redis_server.signal(signal.SIGSTOP)
    signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
    began_mono_s = time.monotonic()
    try:
        with pytest.raises(ConnectionLost, match="no answer in time"):
            wire.call("PING")
        assert 1.5 <= time.monotonic() - began_mono_s < 5
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        redis_server.signal(signal.SIGCONT)


def test_a_deadline_of_the_callers_own_is_no_lost_connection(redis_server: Redis) -> None:
    """TimeoutError is an OSError, as what the system says of a socket."""
    wire = RedisWire(RedisAddress.parse(redis_server.url))
    wire.connect()

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError("my own")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(TimeoutError, match="my own"):
            wire.call("BLPOP", "nobody-pushes-here", 20)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        wire.abandon()


def test_a_connection_cut_inside_a_reply(peer: socket.socket) -> None:
    def serve() -> None:
        connection, _ = peer.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"+OK\r\n" * 3)
            connection.recv(65536)
            connection.sendall(b"$100\r\nhalf")

    thread = threading.Thread(target=serve)
    thread.start()
    wire = _wire(peer)
    wire.connect()
    with pytest.raises(ConnectionLost, match="closed by the server"):
        wire.call("GET", "x")
    assert not wire.connected
    thread.join()


def test_pack() -> None:
    assert (
        pack("SET", b"\x00\r\n", 1.5, "ü")
        == b"*4\r\n$3\r\nSET\r\n$3\r\n\x00\r\n\r\n$3\r\n1.5\r\n$2\r\n\xc3\xbc\r\n"
    )
