"""`Consumer`: reading queues without tasks."""

from __future__ import annotations

from typing import Any

import pytest
from kombu import Exchange, Queue

from engine.consumer import Consumer
from engine.errors import ContentDisallowed
from engine.model import QueueSpec
from engine.producer import Producer
from engine.transport import open_transport
from tools.rabbitmq import RabbitMQ


@pytest.fixture
def url(unique: str) -> str:
    return f"memory://{unique}"


@pytest.fixture
def producer(url: str) -> Any:
    with Producer(url) as made:
        made.maybe_declare(QueueSpec("q"))
        yield made


def test_a_for_loop(url: str, producer: Producer) -> None:
    producer.publish_many(range(5), "q")
    found = []
    with Consumer(url, ["q"]) as consumer:
        for body, message in consumer:
            found.append(body)
            message.ack()
            if body == 4:
                break
    assert found == [0, 1, 2, 3, 4]
    assert open_transport(url).queue_state("q").ready == 0


def test_callbacks(url: str, producer: Producer) -> None:
    producer.publish({"n": 1}, "q", headers={"h": 2}, correlation_id="c")
    found: list[Any] = []

    def callback(body: Any, message: Any) -> None:
        found.append((body, message.headers["h"], message.properties["correlation_id"]))
        found.append(message.delivery_info["routing_key"])
        message.ack()

    with Consumer(url, "q", callbacks=[callback]) as consumer:
        assert consumer.run(limit=1) == 1
    assert found == [({"n": 1}, 2, "c"), "q"]


def test_reject_requeue_and_once_only(url: str, producer: Producer) -> None:
    producer.publish_many(["a", "b"], "q", serializer="json")
    with Consumer(url, ["q"]) as consumer:
        messages = [consumer.get(), consumer.get()]
        assert [message.payload for message in messages if message is not None] == ["a", "b"]
        assert messages[0] is not None
        assert messages[1] is not None
        messages[0].requeue()
        messages[1].reject()
        with pytest.raises(ValueError, match="was acknowledged"):
            messages[0].ack()
        again = consumer.get()
        assert again is not None
        assert (again.payload, again.delivery_info["redelivered"]) == ("a", True)
        assert consumer.get() is None


def test_what_is_not_acknowledged_comes_again(url: str, producer: Producer) -> None:
    producer.publish_many(range(3), "q")
    with Consumer(url, ["q"]) as consumer:
        for _, message in consumer:
            message.ack()
            break
    with Consumer(url, ["q"]) as consumer:
        assert consumer.run(timeout=0.2) == 2


def test_no_ack(url: str, producer: Producer) -> None:
    producer.publish_many(range(3), "q")
    with Consumer(url, ["q"], no_ack=True) as consumer:
        assert consumer.run(timeout=0.2) == 3
    assert open_transport(url).queue_state("q").ready == 0


def test_only_accepted_content_is_read(
    url: str, producer: Producer, caplog: pytest.LogCaptureFixture
) -> None:
    producer.publish({"a": 1}, "q", serializer="pickle")
    producer.publish({"b": 2}, "q")
    refused: list[Any] = []
    with Consumer(url, ["q"]) as consumer:
        for body, message in consumer:
            message.ack()
            assert body == {"b": 2}
            break
    assert "cannot be read and is rejected" in caplog.text
    producer.publish({"a": 1}, "q", serializer="pickle")

    def on_decode_error(message: Any, error: Exception) -> None:
        refused.append(type(error))
        message.reject()

    with Consumer(url, ["q"], on_decode_error=on_decode_error) as consumer:
        consumer.run(limit=1)
    assert refused == [ContentDisallowed]
    producer.publish({"a": 1}, "q", serializer="pickle")
    with Consumer(
        url, ["q"], accept=["pickle"], callbacks=[lambda body, message: refused.append(body)]
    ) as consumer:
        consumer.run(limit=1)
    assert refused[-1] == {"a": 1}


def test_compressed_bodies(url: str, producer: Producer) -> None:
    producer.publish(["x"] * 1000, "q", compression="gzip")
    with Consumer(url, ["q"], on_message=lambda message: seen.append(message.payload[0])) as consumer:
        seen: list[Any] = []
        consumer.run(limit=1)
    assert seen == ["x"]


def test_stop_gives_back_what_was_not_begun(url: str, producer: Producer) -> None:
    producer.publish_many(range(6), "q")
    consumer = Consumer(url, ["q"], prefetch=6)

    def callback(body: Any, message: Any) -> None:
        message.ack()
        if body == 2:
            consumer.stop()

    consumer.register_callback(callback)
    with consumer:
        assert consumer.run() == 3
        assert open_transport(url).queue_state("q").ready == 3


def test_kombu_queues_and_bindings(url: str) -> None:
    events = Exchange("events", type="topic")
    with Consumer(url, [Queue("feed", events, routing_key="feed.#")]) as consumer:
        with Producer(url, exchange=events) as producer:
            producer.publish(1, routing_key="feed.a")
        message = consumer.get("feed")
    assert message is not None
    assert message.payload == 1


def test_nothing_came(url: str, producer: Producer) -> None:
    with Consumer(url, ["q"]) as consumer, pytest.raises(TimeoutError):
        consumer.drain_events(timeout=0.05)


@pytest.mark.amqp
def test_reading_goes_on_after_the_connection_broke(rabbitmq: RabbitMQ, unique: str) -> None:
    queue = QueueSpec(unique, arguments={"x-expires": 60000})
    found: list[int] = []
    with Producer(rabbitmq.url) as producer, Consumer(rabbitmq.url, [queue], prefetch=2) as consumer:
        producer.publish_many(range(10), unique)
        for body, message in consumer:
            found.append(body)
            if len(found) == 3:
                consumer._link.transport.abandon()
            message.ack()
            if set(found) == set(range(10)):
                break
        consumer._link.transport.delete_queue(unique)
    assert set(found) == set(range(10))
