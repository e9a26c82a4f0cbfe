"""`Producer`: what it writes, what it promises, and what it does when the broker is away."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from kombu import Exchange, Queue
from kombu.utils import json as kombu_json

from engine.errors import ConfigurationError, ConnectionFailed, EncodeError, PublishUnknown, Unroutable
from engine.model import QueueSpec
from engine.producer import Producer
from engine.transport import open_transport
from engine.transport.base import Transport
from tools import brokers
from tools.brokers import RabbitMQ


@pytest.fixture
def url(unique: str) -> str:
    return f"memory://{unique}"


@pytest.fixture
def reader(url: str) -> Any:
    transport = open_transport(url)
    transport.declare(QueueSpec("q"))
    yield transport
    transport.close()


def test_from_any_program(url: str, reader: Transport) -> None:
    with Producer(url) as producer:
        producer.publish({"a": 1}, routing_key="q")
    delivery = reader.get("q")
    assert delivery is not None
    assert kombu_json.loads(delivery.body) == {"a": 1}
    assert (delivery.content_type, delivery.content_encoding) == ("application/json", "utf-8")


@pytest.mark.parametrize(
    ("body", "options", "data", "content_type", "encoding"),
    [
        (b"\x00raw", {}, b"\x00raw", "application/data", "binary"),
        ("text é", {}, "text é".encode(), "text/plain", "utf-8"),
        ([1], {"serializer": "json"}, b"[1]", "application/json", "utf-8"),
        ("ü", {"content_type": "text/x", "content_encoding": "latin-1"}, b"\xfc", "text/x", "latin-1"),
        (b"{}", {"content_type": "application/json"}, b"{}", "application/json", "binary"),
    ],
)
def test_bodies_as_kombu_writes_them(
    url: str, reader: Transport, body: Any, options: Any, data: bytes, content_type: str, encoding: str
) -> None:
    with Producer(url) as producer:
        producer.publish(body, routing_key="q", **options)
    delivery = reader.get("q")
    assert delivery is not None
    assert (delivery.body, delivery.content_type, delivery.content_encoding) == (data, content_type, encoding)


def test_properties_and_headers(url: str, reader: Transport) -> None:
    headers = {"h": 1}
    with Producer(url) as producer:
        producer.publish(
            {},
            "q",
            headers=headers,
            compression="gzip",
            priority=3,
            delivery_mode="transient",
            expiration=1.5,
            correlation_id="c",
            reply_to=Queue("answers"),
            message_id="m",
            app_id="a",
            type="t",
            timestamp=5,
        )
    delivery = reader.get("q")
    assert delivery is not None
    assert delivery.headers == {"h": 1, "compression": "application/x-gzip"}
    assert headers == {"h": 1}
    wanted = {"priority": 3, "delivery_mode": 1, "expiration": "1500", "correlation_id": "c", "type": "t"}
    wanted.update(reply_to="answers", message_id="m", app_id="a", timestamp=5)
    assert delivery.properties == wanted


def test_every_message_gets_an_id(url: str, reader: Transport) -> None:
    with Producer(url) as producer:
        for _ in range(2):
            producer.publish({}, "q")
    ids = {reader.get("q").properties["message_id"] for _ in range(2)}  # type: ignore[union-attr]
    assert len(ids) == 2


def test_an_unroutable_message_is_an_error(url: str) -> None:
    returned: list[Any] = []
    with Producer(url) as producer:
        with pytest.raises(Unroutable):
            producer.publish({}, routing_key="nobody")
        producer.publish({}, routing_key="nobody", mandatory=False)
    with Producer(url, on_return=lambda *args: returned.append(args)) as producer:
        producer.publish({}, routing_key="nobody")
    error, exchange, key, message = returned[0]
    assert (type(error), exchange, key, message.body) == (Unroutable, "", "nobody", b"{}")


def test_declares_what_it_is_told_once(url: str) -> None:
    events = Exchange("events", type="topic")
    queue = Queue("feed", events, routing_key="feed.#")
    with Producer(url, exchange=events) as producer:
        producer.publish({"n": 1}, routing_key="feed.a", declare=[queue])
        producer.publish({"n": 2}, routing_key="feed.b", declare=[queue])
        producer.publish({"n": 3}, routing_key="other")
    transport = open_transport(url)
    assert transport.queue_state("feed").ready == 2


def test_a_queue_deleted_meanwhile_is_declared_again(url: str, reader: Transport) -> None:
    with Producer(url) as producer:
        producer.publish({}, "gone", declare=[QueueSpec("gone")])
        reader.delete_queue("gone")
        producer.publish({}, "gone", declare=[QueueSpec("gone")])
    assert reader.queue_state("gone").ready == 1


def test_many_with_an_outcome_each(url: str, reader: Transport) -> None:
    with Producer(url) as producer:
        good = producer.publish_many(range(1500), routing_key="q")
        mixed = producer.publish_many([producer.message({}, "q"), producer.message({}, "nobody")])
    assert good == [None] * 1500
    assert mixed[0] is None
    assert isinstance(mixed[1], Unroutable)
    assert reader.queue_state("q").ready == 1501


def test_what_cannot_be_written_is_told_before_sending(url: str) -> None:
    with Producer(url) as producer:
        with pytest.raises(EncodeError):
            producer.publish(object(), "q")
        with pytest.raises(ConfigurationError, match="unknown_property"):
            producer.publish({}, "q", unknown_property=1)
        with pytest.raises(ConfigurationError, match="immediate"):
            producer.publish({}, "q", immediate=True)
        with pytest.raises(ConfigurationError, match="retry_policy has no retries"):
            producer.publish({}, "q", retry=True, retry_policy={"retries": 3})


def test_needs_something_to_publish_with() -> None:
    with pytest.raises(TypeError, match="broker URL, an app"):
        Producer(42)


def test_a_transport_it_was_lent_stays_open(reader: Transport) -> None:
    with Producer(reader) as producer:
        producer.publish({}, "q")
    assert reader.connected


def test_threads_share_a_producer(url: str, reader: Transport) -> None:
    with Producer(url) as producer:
        threads = [
            threading.Thread(target=lambda: [producer.publish({}, "q") for _ in range(50)]) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert reader.queue_state("q").ready == 200


def test_no_broker_fails_within_the_timeout() -> None:
    started = time.monotonic()
    producer = Producer("amqp://guest:canary@127.0.0.1:1//", timeout=1.0)
    with pytest.raises(ConnectionFailed) as caught:
        producer.publish({}, "q", retry=True, retry_policy={"max_retries": None, "interval_max": 0.1})
    assert 0.7 < time.monotonic() - started < 4
    assert "canary" not in str(caught.value)


@pytest.mark.amqp
def test_an_idle_connection_that_died_is_opened_anew(rabbitmq: RabbitMQ, unique: str) -> None:
    queue = QueueSpec(unique, arguments={"x-expires": 60000})
    with Producer(rabbitmq.url) as producer:
        producer.publish({}, unique, declare=[queue])
        own = producer.sender.source.take()
        producer.sender.source.give(own)
        own.transport.abandon()
        producer.publish({}, unique, declare=[queue])
        assert own.transport.queue_state(unique).ready == 2
        own.transport.delete_queue(unique)


@pytest.mark.amqp
@pytest.mark.slow
def test_publishes_over_a_restart_of_the_broker_are_all_there_or_told(tmp_path: Any, unique: str) -> None:
    """Every publish either raises, or its message is in the queue; with retries, all are there."""
    try:
        server = brokers.RabbitMQ(tmp_path)
        server.start()
    except brokers.BrokerUnavailable as error:
        pytest.skip(str(error))
    try:
        queue = QueueSpec(unique)
        policy = {"max_retries": None, "interval_max": 0.2}
        with Producer(server.url, timeout=60) as producer:
            producer.publish({"n": -1}, unique, declare=[queue])
            killer = threading.Timer(0.2, lambda: (server.kill(), server.start()))
            killer.start()
            confirmed = 0
            while killer.is_alive() or confirmed < 50:
                producer.publish({"n": confirmed}, unique, declare=[queue], retry=True, retry_policy=policy)
                confirmed += 1
            found = _drain(server.url, unique)
    finally:
        server.stop()
    assert set(range(confirmed)) <= found


def _drain(url: str, name: str) -> set[int]:
    transport, found = open_transport(url), set()
    while (delivery := transport.get(name)) is not None:
        found.add(kombu_json.loads(delivery.body)["n"])
        transport.ack([delivery])
    transport.close()
    return found


def test_unknown_outcomes_are_errors_without_a_policy() -> None:
    from engine.publish_retry import NEVER, RetryPolicy

    unknown = PublishUnknown("lost")
    assert not NEVER.allows(0)
    assert RetryPolicy.of({}).applies_to(unknown)
    assert RetryPolicy.of({"retry_errors": [KeyError]}).applies_to(KeyError())
    assert not RetryPolicy.of({}).applies_to(Unroutable())
    growing = RetryPolicy.of({"interval_start": 1, "interval_step": 2, "interval_max": 4})
    assert [growing.pause_s(n) for n in range(3)] == [1, 3, 4]
