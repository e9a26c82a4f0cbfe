"""What is the bridge's own; the contract is tested in tests/conformance on kombu's memory transport."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from engine.codec import Message
from engine.errors import ConfigurationError, ConnectionFailed, MissingExtra
from engine.model import QueueSpec
from engine.transport import TransportOptions, open_transport
from engine.transport.kombu_bridge import KombuTransport
from engine.transport.kombu_messages import DUE_HEADER


def _files(tmp_path: Path) -> TransportOptions:
    for name in ("in", "control"):
        (tmp_path / name).mkdir(exist_ok=True)
    extra = {
        "data_folder_in": str(tmp_path / "in"),
        "data_folder_out": str(tmp_path / "in"),
        "control_folder": str(tmp_path / "control"),
    }
    return TransportOptions(extra=extra)


def test_options_reach_kombu_and_another_of_its_brokers_works(tmp_path: Path, unique: str) -> None:
    transport = open_transport("kombu+filesystem://", _files(tmp_path))
    transport.declare(QueueSpec(unique))
    message = Message(b"\x00\xff", routing_key=unique, headers={"a": [1, None]}, correlation_id="c")
    assert transport.publish([message]) == [None]
    assert len(list((tmp_path / "in").iterdir())) == 1
    transport.consume([unique], 1)
    [delivery] = transport.receive(5)
    assert delivery.body == b"\x00\xff"
    assert delivery.headers == {"a": [1, None]}
    assert delivery.properties["correlation_id"] == "c"
    transport.ack([delivery])
    transport.close()


def test_a_plain_kombu_consumer_reads_our_messages(unique: str) -> None:
    from kombu import Connection

    transport = open_transport("kombu+memory://")
    transport.declare(QueueSpec(unique))
    body = b'[[1, 2], {}, {"callbacks": null}]'
    message = Message(body, routing_key=unique, headers={"task": "add", "id": "1"}, reply_to="r")
    assert transport.publish([message]) == [None]
    with Connection("memory://") as connection, connection.SimpleQueue(unique) as queue:
        received = queue.get(timeout=5)
        assert received.headers == {"task": "add", "id": "1"}
        assert received.payload == [[1, 2], {}, {"callbacks": None}]
        assert received.properties["reply_to"] == "r"
        received.ack()
    transport.delete_queue(unique)
    transport.close()


def test_a_delayed_message_is_marked_for_whoever_receives_it(unique: str) -> None:
    from kombu import Connection

    transport = open_transport("kombu+memory://")
    transport.declare(QueueSpec(unique))
    due_at = time.time() + 1000
    transport.publish([Message(b"[]", routing_key=unique, due_at=due_at)])
    with Connection("memory://") as connection, connection.SimpleQueue(unique) as queue:
        received = queue.get(timeout=5)
        assert received.headers == {DUE_HEADER: due_at}
        received.ack()
    transport.delete_queue(unique)
    transport.close()


def test_messages_that_wait_do_not_use_up_the_prefetch(unique: str) -> None:
    transport = open_transport("kombu+memory://")
    transport.declare(QueueSpec(unique))
    far = time.time() + 1000
    transport.publish([Message(b"later", routing_key=unique, due_at=far) for _ in range(5)])
    transport.publish([Message(b"now", routing_key=unique)])
    transport.consume([unique], 1)
    [delivery] = transport.receive(5)
    assert delivery.body == b"now"
    transport.ack([delivery])
    transport.close()
    again = open_transport("kombu+memory://")
    assert again.queue_state(unique).ready == 5, "given back, and still marked"
    again.delete_queue(unique)
    again.close()


def test_memory_says_that_it_does_not_cross_processes() -> None:
    assert not KombuTransport("kombu+memory://").capabilities.crosses_processes
    assert KombuTransport("kombu+sqs://").capabilities.crosses_processes
    assert KombuTransport.capabilities.survives_restart


def test_no_broker_named() -> None:
    with pytest.raises(ConfigurationError, match="names no broker"):
        KombuTransport("kombu+").connect()


def test_a_scheme_kombu_does_not_know() -> None:
    with pytest.raises(MissingExtra, match="cannot speak"):
        KombuTransport("kombu+nosuchbroker://").connect()


def test_a_broker_that_is_not_there(unused_port: int) -> None:
    url = f"kombu+pyamqp://someone:canary-secret@127.0.0.1:{unused_port}//"
    with pytest.raises(ConnectionFailed) as caught:
        KombuTransport(url, TransportOptions(connect_timeout=1)).connect()
    assert "canary-secret" not in str(caught.value)
    assert f"127.0.0.1:{unused_port}" in str(caught.value)


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.amqp
def test_a_broker_that_closes_channels(rabbitmq: Any, unique: str) -> None:
    """kombu over AMQP: a failed call costs the channel, not the transport."""
    from engine.errors import QueueNotFound

    transport = open_transport(f"kombu+{rabbitmq.url.replace('amqp://', 'pyamqp://', 1)}")
    with pytest.raises(QueueNotFound):
        transport.queue_state(unique)
    transport.declare(QueueSpec(unique))
    assert transport.publish([Message(b"x", routing_key=unique)]) == [None]
    transport.consume([unique], 1)
    [delivery] = transport.receive(5)
    assert delivery.body == b"x"
    transport.ack([delivery])
    assert transport.receive(0.05) == []
    transport.delete_queue(unique)
    transport.close()
