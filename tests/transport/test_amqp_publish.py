"""Publishing on RabbitMQ: large batches, every refusal told to its message, alarms, lost connections."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator

import pytest

from engine.codec import Message
from engine.errors import ConnectionLost, EncodeError, PublishRefused, PublishUnknown, Unroutable
from engine.model import QueueSpec
from engine.transport.amqp import AmqpTransport
from tests.transport.amqp_support import drop_connections, opened, take, text, wait_until
from tools.brokers import RabbitMQ

pytestmark = pytest.mark.amqp


@pytest.fixture
def transport(rabbitmq: RabbitMQ, unique: str) -> Iterator[AmqpTransport]:
    with opened(rabbitmq.url, client_name=unique) as transport:
        transport.declare(QueueSpec(unique))
        yield transport
        transport.delete_queue(unique)


def test_more_than_a_window(transport: AmqpTransport, unique: str) -> None:
    messages = [text(f"{number}", unique) for number in range(3500)]
    assert transport.publish(messages) == [None] * 3500
    assert transport.queue_state(unique).ready == 3500


def test_more_bytes_than_any_buffer_holds(transport: AmqpTransport, unique: str) -> None:
    """The broker answers while we still write: both sides must keep reading."""
    body = os.urandom(100_000)
    messages = [Message(body, routing_key=unique) for _ in range(300)]
    messages += [Message(body, routing_key=f"{unique}-none") for _ in range(100)]  # these come back whole
    outcomes = transport.publish(messages)
    assert outcomes[:300] == [None] * 300
    assert all(isinstance(outcome, Unroutable) for outcome in outcomes[300:])
    transport.purge(unique)


def test_unconfirmed_in_large_batches(transport: AmqpTransport, unique: str) -> None:
    messages = [text("x" * 10_000, unique) for _ in range(2000)]
    assert transport.publish(messages, confirm=False) == [None] * 2000
    wait_until(lambda: transport.queue_state(unique).ready == 2000, "all to arrive")


@pytest.mark.parametrize("confirm", [True, False])
def test_an_unknown_exchange_in_the_middle(transport: AmqpTransport, unique: str, confirm: bool) -> None:
    """The broker closes the channel over it; the neighbours arrive all the same."""
    messages = [text(f"{number}", unique) for number in range(20)]
    for index in (3, 11):
        messages[index] = text("lost", unique, exchange=f"{unique}-missing")
    outcomes = transport.publish(messages, confirm=confirm)
    expected = {index for index in (3, 11) if confirm}
    assert {index for index, outcome in enumerate(outcomes) if outcome is not None} == expected
    if confirm:
        assert f"{unique}-missing" in str(outcomes[3])
    assert transport.publish([text("after", unique)], confirm=confirm) == [None]
    transport.consume([unique], 0)
    seen: set[bytes] = set()
    wanted = {b"%d" % number for number in range(20) if number not in (3, 11)} | {b"after"}
    if confirm:
        while not wanted <= seen:
            seen |= {delivery.body for delivery in take(transport, 1)}
        assert seen == wanted


def test_one_by_one_past_a_closed_channel(transport: AmqpTransport, unique: str) -> None:
    """Without confirms the broker's word is read only now and then; soon after it messages arrive again."""
    assert transport.publish_one(text("0", unique, exchange=f"{unique}-missing"), False, True, 5.0) is None

    def arrives() -> bool:
        assert transport.publish_one(text("1", unique), False, True, 5.0) is None
        return transport.queue_state(unique).ready > 0

    wait_until(arrives, "the next channel")


def test_a_message_the_broker_cannot_stomach(transport: AmqpTransport, unique: str) -> None:
    """Nothing in the broker's words names it, so it is found by trying."""
    messages = [text(f"{number}", unique) for number in range(10)]
    messages[6].user_id = "somebody else"
    outcomes = transport.publish(messages)
    assert [index for index, outcome in enumerate(outcomes) if outcome is not None] == [6]
    assert isinstance(outcomes[6], PublishRefused)
    assert "user_id" in str(outcomes[6])


def test_a_message_that_cannot_be_encoded(transport: AmqpTransport, unique: str) -> None:
    messages = [text(f"{number}", unique) for number in range(10)]
    messages[4] = text("bad", unique, headers={"object": object()})
    messages[9] = text("bad", "k" * 300)
    outcomes = transport.publish(messages)
    assert [index for index, outcome in enumerate(outcomes) if isinstance(outcome, EncodeError)] == [4, 9]
    assert outcomes.count(None) == 8
    assert transport.queue_state(unique).ready == 8


def test_a_full_queue_refuses(transport: AmqpTransport, unique: str) -> None:
    full = f"{unique}-full"
    transport.declare(QueueSpec(full, arguments={"x-max-length": 2, "x-overflow": "reject-publish"}))
    assert transport.publish([text(f"{number}", full) for number in range(2)]) == [None, None]
    [outcome] = transport.publish([text("one too many", full)])
    assert isinstance(outcome, PublishRefused)
    assert "queue is full" in str(outcome)
    transport.delete_queue(full)


def test_no_permission_to_write(rabbitmq: RabbitMQ, unique: str) -> None:
    rabbitmq.ctl("add_user", unique, "pw")
    rabbitmq.ctl("set_permissions", "-p", "/", unique, ".*", "^$", ".*")
    try:
        with opened(f"amqp://{unique}:pw@127.0.0.1:{rabbitmq.port}//") as transport:
            [outcome] = transport.publish([text("x", "q", exchange="amq.topic")])
            assert isinstance(outcome, PublishRefused)
            assert "amq.topic" in str(outcome)
    finally:
        rabbitmq.ctl("delete_user", unique)


def test_a_connection_lost_while_idle_is_opened_anew(
    rabbitmq: RabbitMQ, transport: AmqpTransport, unique: str
) -> None:
    assert transport.publish([text("a", unique)]) == [None]
    drop_connections(rabbitmq, unique)
    assert transport.publish([text("b", unique)]) == [None]
    assert transport.queue_state(unique).ready == 2


def cut_while_confirming(transport: AmqpTransport) -> None:
    """Have the publishing connection cut as soon as a confirm is awaited on it."""
    publisher = transport._publishing()
    raw = publisher.connection._socket
    assert raw is not None
    flush = publisher.connection.flush

    def flush_and_cut() -> bool:
        done = flush()
        if len(publisher.connection.protocol.channels[1].confirms or ()):
            raw.shutdown(socket.SHUT_RDWR)
        return done

    publisher.connection.flush = flush_and_cut  # type: ignore[method-assign]
    write_now = publisher.connection.write_now

    def write_and_cut(frames: bytes, read_every_s: float) -> bool:
        done = write_now(frames, read_every_s)
        if done:
            raw.shutdown(socket.SHUT_RDWR)
        return done

    publisher.connection.write_now = write_and_cut  # type: ignore[method-assign]


def test_lost_in_the_middle_is_unknown(transport: AmqpTransport, unique: str) -> None:
    """Cut while confirms are awaited: no outcome may be a success, and none a certain failure."""
    cut_while_confirming(transport)
    outcomes = transport.publish([text(f"{number}", unique) for number in range(5)])
    assert all(isinstance(outcome, PublishUnknown) for outcome in outcomes)
    assert "same id" in str(outcomes[0])
    assert transport.publish([text("after", unique)]) == [None]


def test_nothing_sent_is_a_lost_connection(own_broker: RabbitMQ, unique: str) -> None:
    with opened(own_broker.url) as transport:
        transport.declare(QueueSpec(unique))
        assert transport.publish([text("x", unique)]) == [None]
        own_broker.kill()
        with pytest.raises(ConnectionLost, match="nothing was published"):
            transport.publish([text("y", unique)])


def test_an_alarm(own_broker: RabbitMQ, unique: str) -> None:
    """Publishes wait and are then told apart; acknowledgements go on; afterwards all is well."""
    with opened(own_broker.url) as transport, opened(own_broker.url) as observer:
        transport.declare(QueueSpec(unique))
        assert transport.publish([text("a", unique), text("b", unique)]) == [None, None]
        transport.consume([unique], 1)
        [first] = take(transport, 1)
        own_broker.ctl("set_vm_memory_high_watermark", "0")
        [sent] = transport.publish([text("c", unique)], timeout=1)
        assert isinstance(sent, PublishUnknown)
        assert "memory" in str(sent)
        started_mono_s = time.monotonic()
        [unsent] = transport.publish([text("d", unique)], timeout=1)
        assert 0.9 < time.monotonic() - started_mono_s < 5
        assert isinstance(unsent, PublishRefused)
        assert "was not sent" in str(unsent)
        transport.ack([first])
        [second] = take(transport, 1)
        transport.ack([second])
        wait_until(lambda: observer.queue_state(unique).ready == 0, "the acks to count")
        own_broker.ctl("set_vm_memory_high_watermark", "0.4")
        assert transport.publish([text("e", unique)]) == [None]
        assert [delivery.body for delivery in take(transport, 1)] == [b"c"]


def test_one_that_cannot_be_encoded(transport: AmqpTransport, unique: str) -> None:
    assert transport.publish_one(text("x", unique), False, True, 5.0) is None
    for confirm in (True, False):
        bad = text("x", unique, headers={"object": object()})
        assert isinstance(transport.publish_one(bad, confirm, True, 5.0), EncodeError)


def test_one_alone_on_a_warm_connection(transport: AmqpTransport, unique: str) -> None:
    """Each of its ends is told, and the next one arrives all the same."""
    assert transport.publish_one(text("0", unique), True, True, 5.0) is None
    missing = text("1", unique, exchange=f"{unique}-missing")
    assert isinstance(transport.publish_one(missing, True, True, 5.0), Unroutable)
    assert transport.publish_one(text("2", unique), True, True, 5.0) is None
    assert isinstance(transport.publish_one(text("3", f"{unique}-none"), True, True, 5.0), Unroutable)
    stranger = text("4", unique, user_id="somebody else")
    assert isinstance(transport.publish_one(stranger, True, True, 5.0), PublishRefused)
    assert transport.publish_one(text("5", unique), True, True, 5.0) is None
    assert transport.queue_state(unique).ready == 3


def test_one_alone_lost_in_the_middle_is_unknown(transport: AmqpTransport, unique: str) -> None:
    assert transport.publish_one(text("0", unique), True, True, 5.0) is None
    cut_while_confirming(transport)
    assert isinstance(transport.publish_one(text("1", unique), True, True, 5.0), PublishUnknown)
    assert transport.publish_one(text("2", unique), True, True, 5.0) is None
