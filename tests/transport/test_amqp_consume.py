"""Consuming on RabbitMQ when things go wrong: cancelled consumers, closed channels, lost connections."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.codec import Delivery, encode_acks
from engine.errors import ConnectionFailed, ConnectionLost, MessageTooLarge, QueueNotFound
from engine.model import QueueSpec
from engine.transport.amqp import AmqpTransport
from engine.transport.amqp_consume import DELIVERIES
from tests.transport.amqp_support import drop_connections, opened, take, text, wait_until
from tools.brokers import RabbitMQ

pytestmark = pytest.mark.amqp


@pytest.fixture
def transport(rabbitmq: RabbitMQ, unique: str) -> Iterator[AmqpTransport]:
    with opened(rabbitmq.url, client_name=unique) as transport:
        transport.declare(QueueSpec(unique))
        yield transport
        transport.connect()
        transport.delete_queue(unique)


def _receive_until_lost(transport: AmqpTransport) -> None:
    for _ in range(100):
        transport.receive(0.2)


def _consume_until_lost(transport: AmqpTransport, queue: str) -> None:
    transport.consume([queue], 1)
    _receive_until_lost(transport)


def test_a_deleted_queue_is_declared_and_consumed_again(
    rabbitmq: RabbitMQ, transport: AmqpTransport, unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    transport.consume([unique], 5)
    with opened(rabbitmq.url) as other, caplog.at_level(logging.WARNING, logger="engine"):
        other.delete_queue(unique)
        wait_until(lambda: transport.receive(0.05) == [] and bool(caplog.records), "the cancel to come")
        assert "cancelled the consumer" in caplog.text
        assert other.publish([text("x", unique)]) == [None]
    assert take(transport, 1)[0].body == b"x"


def test_a_queue_that_is_gone_for_good_is_told(
    rabbitmq: RabbitMQ, transport: AmqpTransport, unique: str
) -> None:
    with opened(rabbitmq.url) as stranger:
        stranger.consume([unique], 5)
        transport.delete_queue(unique)
        with pytest.raises(QueueNotFound, match=unique):
            _receive_until_lost(stranger)
        assert stranger.connected


def test_the_other_queues_go_on_when_one_is_cancelled(
    rabbitmq: RabbitMQ, transport: AmqpTransport, unique: str
) -> None:
    second = f"{unique}-2"
    transport.declare(QueueSpec(second))
    transport.consume([unique, second], 4)
    with opened(rabbitmq.url) as other:
        other.delete_queue(second)
        wait_until(lambda: other.delete_queue(f"{unique}-nothing") == 0, "a round trip")
        transport.receive(0.3)
        assert other.publish([text("1", unique), text("2", second)]) == [None, None]
    assert {delivery.body for delivery in take(transport, 2)} == {b"1", b"2"}
    transport.delete_queue(second)


def test_a_closed_channel_voids_deliveries_and_goes_on(
    transport: AmqpTransport, unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As after a consumer_timeout: what was held comes again, and acks of the old channel are dropped."""
    transport.publish([text(body, unique) for body in "abc"])
    transport.consume([unique], 2)
    held = take(transport, 2)
    connection = transport._consuming().connection
    connection.protocol.send(encode_acks(DELIVERIES, [(4711, False)]))  # RabbitMQ closes the channel over it
    connection.flush()
    with caplog.at_level(logging.WARNING, logger="engine"):
        again: list[Delivery] = []
        while len(again) < 2:
            again += transport.receive(0.5)
    assert "unknown delivery tag 4711" in caplog.text
    assert transport.epoch == held[0].epoch + 1
    assert {delivery.epoch for delivery in again} == {transport.epoch}
    assert all(delivery.redelivered for delivery in again)
    transport.ack(held)
    transport.nack(held, requeue=False)
    transport.park(held[0], 0.0)
    assert transport.receive(0.2) == []  # two are held, as before
    transport.ack(again)
    [last] = take(transport, 1)
    transport.ack([last])
    assert sorted(each.body for each in (*again, last)) == [b"a", b"b", b"c"]
    wait_until(lambda: transport.queue_state(unique).ready == 0, "nothing left")


def test_settling_on_a_channel_that_was_closed_unseen(transport: AmqpTransport, unique: str) -> None:
    """The close lies in the socket while the ack is made: it must not reach the new channel."""
    transport.publish([text("a", unique)])
    transport.consume([unique], 1)
    [held] = take(transport, 1)
    connection = transport._consuming().connection
    connection.protocol.send(encode_acks(DELIVERIES, [(4711, False)]))
    connection.flush()
    assert connection.run_until(lambda: DELIVERIES not in connection.protocol.channels, float("inf"))
    transport.ack([held])
    [again] = take(transport, 1)
    assert again.redelivered
    transport.ack([again])
    assert transport.connected


def test_a_connection_lost_in_the_middle_of_a_body_brings_it_again(
    transport: AmqpTransport, unique: str
) -> None:
    body = "0123456789" * 500_000
    transport.publish([text(body, unique)])
    transport.consume([unique], 1)
    connection = transport._consuming().connection
    decoder = connection.protocol.decoder
    assert connection.run_until(lambda: decoder.buffered > 100_000, time.monotonic() + 10.0)
    assert decoder.buffered < len(body)
    assert connection._socket is not None
    connection._socket.shutdown(socket.SHUT_RDWR)
    with pytest.raises(ConnectionLost):
        _receive_until_lost(transport)
    transport.reconnect()
    [again] = take(transport, 1)
    assert (again.body, again.redelivered) == (body.encode(), True)
    transport.ack([again])


def test_a_lost_connection_is_told_and_reconnect_goes_on(
    rabbitmq: RabbitMQ, transport: AmqpTransport, unique: str
) -> None:
    transport.publish([text("a", unique), text("b", unique)])
    transport.consume([unique], 1)
    [old] = take(transport, 1)
    drop_connections(rabbitmq, unique)
    with pytest.raises(ConnectionLost, match="dropped by a test"):
        _receive_until_lost(transport)
    assert not transport.connected
    with pytest.raises(ConnectionLost):
        transport.ack([old])
    transport.reconnect()
    assert transport.epoch == old.epoch + 1
    transport.ack([old])
    assert transport.publish([text("c", unique)]) == [None]
    seen = []
    for _ in range(3):
        [delivery] = take(transport, 1)
        seen.append(delivery.body)
        transport.ack([delivery])
    assert sorted(seen) == [b"a", b"b", b"c"]


def test_a_broker_that_restarts(tmp_path: Path, unique: str) -> None:
    """Durable queues keep what was confirmed; transient ones are declared again."""
    broker = RabbitMQ(tmp_path)
    broker.start()
    try:
        with opened(broker.url) as transport:
            transient = QueueSpec(f"{unique}-transient", durable=False)
            transport.declare(QueueSpec(unique))
            transport.declare(transient)
            assert transport.publish([text("kept", unique)]) == [None]
            transport.consume([unique, transient.name], 2)
            take(transport, 1)
            broker.stop()
            with pytest.raises(ConnectionLost):
                _receive_until_lost(transport)
            with pytest.raises(ConnectionFailed, match="is the broker running"):
                transport.reconnect()
            broker.start()
            transport.reconnect()
            [again] = take(transport, 1)
            assert again.body == b"kept"
            transport.ack([again])
            assert transport.publish([text("new", transient.name)]) == [None]
            assert take(transport, 1)[0].queue == transient.name
    finally:
        broker.stop()


def test_a_message_larger_than_we_take_is_not_met_twice(
    rabbitmq: RabbitMQ, transport: AmqpTransport, unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is rejected (to the dead-letter exchange, where there is one), loudly, or it would end every
    connection that meets it."""
    transport.publish([text("x" * 5000, unique), text("small", unique)])
    with opened(rabbitmq.url, max_message_size=1000) as small:
        assert isinstance(small.publish([text("x" * 5000, unique)])[0], MessageTooLarge)
        with (
            caplog.at_level(logging.ERROR, logger="engine"),
            pytest.raises(ConnectionLost, match="max_message_size"),
        ):
            _consume_until_lost(small, unique)
        assert unique in caplog.text
        small.reconnect()
        small.consume([unique], 1)
        assert take(small, 1)[0].body == b"small"


def test_bytes_one_at_a_time(rabbitmq: RabbitMQ, unique: str) -> None:
    """A network that tears everything apart."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_relay_slices, args=(server, rabbitmq.port))
        thread.start()
        with opened(f"amqp://guest:guest@127.0.0.1:{server.getsockname()[1]}//") as transport:
            transport.declare(QueueSpec(unique))
            transport.consume([unique], 10)
            with opened(rabbitmq.url) as other:
                assert other.publish([text(f"{number}", unique) for number in range(10)]) == [None] * 10
            taken = take(transport, 10)
            assert [delivery.body for delivery in taken] == [b"%d" % number for number in range(10)]
            transport.ack(taken)
            transport.delete_queue(unique)
        thread.join()


def _relay_slices(server: socket.socket, port: int) -> None:
    """Relay one connection, the broker's bytes one by one."""
    client, _ = server.accept()
    with client, socket.create_connection(("127.0.0.1", port)) as broker:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def forward() -> None:
            with contextlib.suppress(OSError):
                while data := client.recv(65536):
                    broker.sendall(data)
                broker.shutdown(socket.SHUT_WR)

        upstream = threading.Thread(target=forward)
        upstream.start()
        with contextlib.suppress(OSError):  # the client is through
            while data := broker.recv(65536):
                for byte in data:
                    client.sendall(bytes([byte]))
        upstream.join()


def test_prefetch_is_shared_between_queues(rabbitmq: RabbitMQ, transport: AmqpTransport, unique: str) -> None:
    names = [f"{unique}-{number}" for number in range(3)]
    for name in names:
        transport.declare(QueueSpec(name))
        transport.publish([text(f"{number}", name) for number in range(5)])
    transport.consume(names, 6)
    held = take(transport, 6)
    assert transport.receive(0.2) == []
    assert all(sum(delivery.queue == name for delivery in held) == 2 for name in names)
    for name in names:
        transport.delete_queue(name)


def test_another_prefetch_keeps_an_auto_delete_queue_and_what_waits_in_it(
    transport: AmqpTransport, unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"{unique}-auto"
    transport.declare(QueueSpec(name, auto_delete=True))
    assert transport.publish([text(f"{number}", name) for number in range(6)]) == [None] * 6
    with caplog.at_level(logging.WARNING, logger="engine"):
        transport.consume([name], 1)
        held = take(transport, 1)
        transport.consume([name], 3)
        held += take(transport, 3)
        transport.consume([name], 2)
        transport.ack(held)
        held += take(transport, 2)
    assert [delivery.body for delivery in held] == [b"0", b"1", b"2", b"3", b"4", b"5"]
    assert caplog.text == ""


def test_a_wake_fd_that_closed_is_no_endless_wait(transport: AmqpTransport, unique: str) -> None:
    """The supervisor's end of the pipe is gone: that is a wake, too."""
    reading, writing = os.pipe()
    transport.consume([unique], 1)
    transport.wake_fds = (reading,)
    os.close(writing)
    assert transport.receive(10) == []
    transport.wake_fds = ()
    os.close(reading)
