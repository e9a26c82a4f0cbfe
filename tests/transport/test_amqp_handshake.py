"""Connecting to RabbitMQ: what is negotiated, and what a failure says."""

from __future__ import annotations

import socket
import time

import pytest

from engine.errors import AccessRefused, ConfigurationError, ConnectionFailed
from engine.transport import open_transport
from tests.transport.amqp_support import connections, opened, peer, wait_until
from tools.brokers import RabbitMQ

pytestmark = pytest.mark.amqp


@pytest.mark.parametrize("path", ["", "/", "//", "/%2F"])
def test_the_default_virtual_host_as_kombu_spells_it(rabbitmq: RabbitMQ, path: str) -> None:
    with opened(f"amqp://guest:guest@127.0.0.1:{rabbitmq.port}{path}") as transport:
        assert transport.connected
        assert transport.endpoint.vhost == "/"


def test_another_virtual_host(rabbitmq: RabbitMQ, unique: str) -> None:
    rabbitmq.ctl("add_vhost", unique)
    rabbitmq.ctl("set_permissions", "-p", unique, "guest", ".*", ".*", ".*")
    try:
        with opened(f"amqp://guest:guest@127.0.0.1:{rabbitmq.port}/{unique}") as transport:
            assert transport.connected
    finally:
        rabbitmq.ctl("delete_vhost", unique)


def test_the_broker_shows_the_client_s_name(rabbitmq: RabbitMQ, unique: str) -> None:
    with opened(rabbitmq.url, client_name=unique):
        wait_until(lambda: len(connections(rabbitmq, unique)) == 1, "the connection to be listed")


def test_a_process_of_one_role_has_one_connection(rabbitmq: RabbitMQ, unique: str) -> None:
    with opened(rabbitmq.url, client_name=unique) as transport:
        transport.publish([], confirm=True)
        assert transport.delete_queue(unique) == 0
        wait_until(lambda: len(connections(rabbitmq, unique)) == 1, "the connection to be listed")


@pytest.mark.parametrize(
    ("query", "heartbeat_s"), [("?heartbeat=7", 7), ("?heartbeat=0", 0), ("", 60), ("?heartbeat=1.5", 2)]
)
def test_the_lower_heartbeat_wins(rabbitmq: RabbitMQ, query: str, heartbeat_s: int) -> None:
    with opened(rabbitmq.url + query) as transport:
        assert transport._spare is not None
        assert transport._spare.protocol.heartbeat_s == heartbeat_s


def test_a_wrong_password(rabbitmq: RabbitMQ) -> None:
    url = f"amqp://guest:canary-secret@127.0.0.1:{rabbitmq.port}//"
    with pytest.raises(AccessRefused) as caught, opened(url):
        pass
    assert "'guest'" in str(caught.value)
    assert "ACCESS_REFUSED" in str(caught.value)
    assert "canary-secret" not in str(caught.value) + repr(caught.value)


def test_a_password_in_no_repr(rabbitmq: RabbitMQ) -> None:
    with opened(rabbitmq.url) as transport:
        assert transport.endpoint.password not in repr(transport.endpoint).replace("user='guest'", "")


def test_a_wrong_virtual_host(rabbitmq: RabbitMQ, unique: str) -> None:
    with pytest.raises(AccessRefused, match=unique), opened(f"{rabbitmq.url[:-2]}/{unique}"):
        pass


def test_a_login_the_broker_does_not_offer(rabbitmq: RabbitMQ) -> None:
    with pytest.raises(AccessRefused, match="EXTERNAL"), opened(f"{rabbitmq.url}?login_method=EXTERNAL"):
        pass


def test_a_closed_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ConnectionFailed, match=f"127.0.0.1:{port}.*is the broker running"):
        open_transport(f"amqp://127.0.0.1:{port}")


def test_an_unknown_host() -> None:
    with (
        pytest.raises(ConnectionFailed, match=r"no-such-host\.invalid"),
        opened("amqp://no-such-host.invalid"),
    ):
        pass


def test_a_peer_that_is_silent() -> None:
    started_mono_s = time.monotonic()
    with (
        peer(lambda connection: connection.recv(100) and connection.recv(1) and None) as port,
        pytest.raises(ConnectionFailed, match="silent"),
        opened(f"amqp://127.0.0.1:{port}?connect_timeout=0.5"),
    ):
        pass
    assert 0.4 < time.monotonic() - started_mono_s < 5


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "not an AMQP broker"),
        (b"AMQP\x00\x01\x00\x00", "protocol 0.1.0.0"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "amqps://"),
        (b"\x01\x00\x00\xff\xff\xff\xff", "not AMQP"),
        (b"\x01\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x0a\x00", "not AMQP"),
        (b"", "closed the connection"),
    ],
)
def test_a_peer_that_is_no_broker(data: bytes, told: str) -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(8)
        connection.sendall(data)
        if data:
            connection.recv(1)

    with (
        peer(answer) as port,
        pytest.raises(ConnectionFailed, match=told),
        opened(f"amqp://127.0.0.1:{port}"),
    ):
        pass


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("amqp://host?heartbeat=often", "heartbeat"),
        ("amqp://host?connect_timeout=-1", "connect_timeout"),
        ("amqp://host?login_method=AMQPLAIN", "AMQPLAIN"),
        ("amqps://host?verify=perhaps", "verify_none"),
        ("amqps://host?cacertfile=/none.pem", "/none.pem"),
    ],
)
def test_a_url_that_makes_no_sense(url: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told), opened(url):
        pass
