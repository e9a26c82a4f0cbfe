"""amqps: who is trusted and who is not, and that records made ahead keep their order."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import ConfigurationError, ConnectionFailed
from engine.model import QueueSpec
from tests.transport.amqp_support import opened, peer, take, text
from tools.brokers import RabbitMQ
from tools.certificates import Certificates

pytestmark = pytest.mark.amqp


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority the broker knows nothing of."""
    return Certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def other_host(rabbitmq: RabbitMQ) -> Iterator[int]:
    """A port whose certificate the right authority signed, for another host."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    files = rabbitmq.certificates
    context.load_cert_chain(files.other_host_certificate, files.other_host_key)
    with peer(lambda connection: connection.recv(1) and None, context) as port:
        yield port


def _round_trip(url: str, queue: str, **options: object) -> None:
    with opened(url, **options) as transport:
        transport.declare(QueueSpec(queue))
        body = "x" * 300_000  # many records
        assert transport.publish([text(body, queue), text("small", queue)]) == [None, None]
        transport.consume([queue], 10)
        taken = take(transport, 2)
        assert [delivery.body.decode() for delivery in taken] == [body, "small"]
        transport.ack(taken)
        transport.delete_queue(queue)


def test_a_known_authority(rabbitmq: RabbitMQ, unique: str) -> None:
    _round_trip(f"{rabbitmq.amqps_url}?cacertfile={rabbitmq.cafile}", unique)


def test_options_like_celery_s(rabbitmq: RabbitMQ, unique: str) -> None:
    url = rabbitmq.amqps_url.replace("amqps://", "amqp://")
    _round_trip(url, unique, ssl={"ca_certs": rabbitmq.cafile, "cert_reqs": ssl.CERT_REQUIRED})


def test_a_client_certificate_is_shown(rabbitmq: RabbitMQ, unique: str) -> None:
    files = rabbitmq.certificates
    query = f"cacertfile={files.ca}&certfile={files.client_certificate}&keyfile={files.client_key}"
    _round_trip(f"{rabbitmq.amqps_url}?{query}", unique)


def test_an_unknown_authority_is_refused(rabbitmq: RabbitMQ, certificates: Certificates) -> None:
    with (
        pytest.raises(ConnectionFailed, match=r"certificate of .* is not accepted.*ca_certs"),
        opened(f"{rabbitmq.amqps_url}?cacertfile={certificates.ca}"),
    ):
        pass


def test_the_system_s_authorities_are_the_default(rabbitmq: RabbitMQ) -> None:
    with pytest.raises(ConnectionFailed, match="not accepted"), opened(rabbitmq.amqps_url):
        pass


def test_another_host_s_certificate_is_refused(rabbitmq: RabbitMQ, other_host: int) -> None:
    with (
        pytest.raises(ConnectionFailed, match=r"not accepted: Hostname mismatch"),
        opened(f"amqps://localhost:{other_host}?cacertfile={rabbitmq.cafile}"),
    ):
        pass


def test_verification_can_be_switched_off_loudly(
    rabbitmq: RabbitMQ, unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="engine"):
        _round_trip(f"{rabbitmq.amqps_url}?verify=verify_none", unique)
    assert "NOT verified" in caplog.text


def test_a_plain_port_is_no_tls_port(rabbitmq: RabbitMQ) -> None:
    with pytest.raises(ConnectionFailed, match="TLS"), opened(f"amqps://127.0.0.1:{rabbitmq.port}"):
        pass


def test_a_tls_port_is_no_plain_port(rabbitmq: RabbitMQ) -> None:
    url = f"amqp://127.0.0.1:{rabbitmq.tls_port}?connect_timeout=10"
    with pytest.raises(ConnectionFailed, match="amqps://"), opened(url):
        pass


def test_old_protocols_are_refused(rabbitmq: RabbitMQ) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    files = rabbitmq.certificates
    context.load_cert_chain(files.server_certificate, files.server_key)
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        peer(lambda connection: connection.recv(1) and None, context) as port,
        pytest.raises(ConnectionFailed, match=r"no TLS|did not answer|closed the connection"),
        opened(f"amqps://localhost:{port}?cacertfile={rabbitmq.cafile}"),
    ):
        pass


def test_a_missing_key_file_is_told(rabbitmq: RabbitMQ, tmp_path: Path) -> None:
    missing = tmp_path / "none.pem"
    with (
        pytest.raises(ConfigurationError, match=str(missing)),
        opened(f"{rabbitmq.amqps_url}?certfile={missing}"),
    ):
        pass
