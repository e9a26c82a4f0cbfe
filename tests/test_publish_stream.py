"""Batches one behind the other: each message has its outcome, and a broken connection costs none of them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import pytest

from engine.app import Engine
from engine.codec import Message
from engine.errors import ConfigurationError, ConnectionLost, PublishUnknown, Unroutable
from engine.model import QueueSpec
from engine.outbox import Outbox
from engine.producer import STREAM_BATCH, Producer
from engine.publish_retry import DEFAULT, NEVER
from engine.transport.amqp import AmqpTransport
from tests.transport.amqp_support import opened
from tests.transport.test_amqp_publish import cut_while_confirming
from tools.brokers import RabbitMQ

pytestmark = pytest.mark.amqp


@pytest.fixture
def transport(rabbitmq: RabbitMQ, unique: str) -> Iterator[AmqpTransport]:
    with opened(rabbitmq.url) as transport:
        transport.declare(QueueSpec(unique))
        yield transport
        transport.delete_queue(unique)


@pytest.fixture
def app(rabbitmq: RabbitMQ, transport: AmqpTransport, unique: str) -> Iterator[Engine]:
    app = Engine("s", broker=rabbitmq.url, task_default_queue=unique)
    yield app
    app.close()


def messages(queue: str, count: int, start: int = 0) -> list[Message]:
    return [Message(b"%d" % number, routing_key=queue) for number in range(start, start + count)]


def bodies(transport: AmqpTransport, queue: str) -> list[bytes]:
    found = iter(lambda: transport.get(queue), None)
    return [delivery.body for delivery in found if delivery is not None]


def test_outcomes_are_in_the_order_of_the_messages(
    rabbitmq: RabbitMQ, transport: AmqpTransport, unique: str
) -> None:
    with Producer(rabbitmq.url) as producer:
        count = 3 * STREAM_BATCH + 7
        made = (producer.message({}, "nobody" if number % 400 == 3 else unique) for number in range(count))
        outcomes = producer.publish_many(made)
    lost = [place for place, outcome in enumerate(outcomes) if isinstance(outcome, Unroutable)]
    assert lost == list(range(3, count, 400))
    assert [outcome for outcome in outcomes if outcome is not None] == [outcomes[place] for place in lost]
    assert transport.queue_state(unique).ready == count - len(lost)


def test_the_next_are_made_while_those_before_are_confirmed(
    rabbitmq: RabbitMQ, transport: AmqpTransport, unique: str
) -> None:
    """A generator that publishes by itself, over the very same connection, gets its own confirms."""
    with Producer(rabbitmq.url) as producer:

        def made() -> Iterator[Message]:
            for number in range(STREAM_BATCH + 1):
                if number == STREAM_BATCH:
                    producer.publish({}, unique)
                yield producer.message({}, unique)

        assert producer.publish_many(made()) == [None] * (STREAM_BATCH + 1)
    assert transport.queue_state(unique).ready == STREAM_BATCH + 2


def test_a_connection_cut_between_two_batches(
    rabbitmq: RabbitMQ, transport: AmqpTransport, unique: str
) -> None:
    """What the broker had not confirmed is not known; with a policy it is sent again, and nothing is lost."""
    for policy in (None, DEFAULT):
        with opened(rabbitmq.url) as own, Producer(own) as producer:
            stream = producer.stream(policy=policy) if policy else producer.stream()
            with stream:
                stream.push(messages(unique, 10), (), True)
                cut_while_confirming(own)
                stream.push(messages(unique, 10, 10), (), True)
                own.reconnect()
                stream.push(messages(unique, 10, 20), (), True)
        assert len(stream.outcomes) == 30
        assert stream.outcomes[20:] == [None] * 10
        unknown = [outcome for outcome in stream.outcomes if outcome is not None]
        assert all(isinstance(outcome, PublishUnknown) for outcome in unknown)
        assert bool(unknown) is (policy is None)
        found = bodies(transport, unique)
        certain = [b"%d" % number for number in range(30) if stream.outcomes[number] is None]
        assert set(certain) <= set(found)


def test_a_connection_gone_before_a_batch_is_opened_anew(
    rabbitmq: RabbitMQ, transport: AmqpTransport, unique: str
) -> None:
    with Producer(rabbitmq.url) as producer:
        with producer.stream() as stream:
            stream.push(messages(unique, 5), (), True)
            stream._land()
            link = producer.sender.source.take()
            producer.sender.source.give(link)

            def gone(*_args: object, **_options: object) -> None:
                raise ConnectionLost("gone")

            link.transport.publish_begin = gone  # type: ignore[method-assign, assignment]
            stream.push(messages(unique, 5, 5), (), True)
            stream.push(messages(unique, 5, 10), (), True)
        assert stream.outcomes == [None] * 15
    assert sorted(bodies(transport, unique)) == sorted(b"%d" % number for number in range(15))


def test_a_queue_that_is_gone_is_declared_again(
    rabbitmq: RabbitMQ, transport: AmqpTransport, unique: str
) -> None:
    queue = QueueSpec(unique)
    with Producer(rabbitmq.url) as producer:
        with producer.stream() as stream:
            stream.push(messages(unique, 3), (queue,), True)
            stream._land()
            transport.delete_queue(unique)
            stream.push(messages(unique, 3, 3), (queue,), True)
        assert stream.outcomes == [None] * 6
    assert bodies(transport, unique) == [b"3", b"4", b"5"]


def test_a_channel_closed_over_one_message_costs_the_others_nothing(
    rabbitmq: RabbitMQ, transport: AmqpTransport, unique: str
) -> None:
    bad = Message(b"bad", exchange="there-is-none", routing_key="x")
    with Producer(rabbitmq.url) as producer, producer.stream() as stream:
        stream.push(messages(unique, 20), (), True)
        stream.push([*messages(unique, 5, 20), bad, *messages(unique, 5, 25)], (), True)
    assert [place for place, outcome in enumerate(stream.outcomes) if outcome is not None] == [25]
    assert isinstance(stream.outcomes[25], Unroutable)
    assert set(bodies(transport, unique)) == {b"%d" % number for number in range(30)}


def test_calls_are_sent_as_they_come(app: Engine, transport: AmqpTransport, unique: str) -> None:
    @app.task
    def add(a: int, b: int) -> int:
        return a + b

    seen = []
    with app.batch(every=10) as box:
        for number in range(45):
            add.apply_async((number, 1), producer=box)
            seen.append(len(box.messages))
    assert max(seen) < 10
    assert transport.queue_state(unique).ready == 45


def test_a_block_that_raises_has_sent_what_was_sent(
    app: Engine, transport: AmqpTransport, unique: str
) -> None:
    @app.task
    def add(a: int) -> int:
        return a

    def send(every: int | None) -> None:
        with app.batch(every=every) as box:
            for number in itertools.count():
                add.apply_async((number,), producer=box)
                if number == 24:
                    raise RuntimeError("enough")

    for every, expected in ((None, 0), (10, 20)):
        with pytest.raises(RuntimeError, match="enough"):
            send(every)
        assert transport.queue_state(unique).ready == expected
        transport.purge(unique)


def test_the_first_error_is_raised_when_all_are_sent(
    app: Engine, transport: AmqpTransport, unique: str
) -> None:
    @app.task
    def add(a: int) -> int:
        return a

    def send() -> None:
        with app.batch(every=5) as box:
            for number in range(12):
                if number == 3:
                    box.send_one(Message(b"{}", routing_key="nobody"), (), True, NEVER, None)
                add.apply_async((number,), producer=box)

    with pytest.raises(Unroutable):
        send()
    assert transport.queue_state(unique).ready == 12


def test_what_every_cannot_be(app: Engine) -> None:
    with pytest.raises(ConfigurationError, match="not 0"), app.batch(every=0):
        pass
    with pytest.raises(ConfigurationError, match="within a batch"), app.batch(Outbox(), every=5):
        pass


def test_a_slow_caller_hears_of_confirms_that_came_in_time(
    rabbitmq: RabbitMQ, transport: AmqpTransport, unique: str
) -> None:
    """The deadline is the broker's, not that of whoever makes the next messages."""
    with Producer(rabbitmq.url) as producer:
        with producer.stream(timeout=0.5) as stream:
            stream.push(messages(unique, 10), (), True)
            time.sleep(0.6)
            stream.push(messages(unique, 10, 10), (), True)
            time.sleep(0.6)
        assert stream.outcomes == [None] * 20
    assert len(bodies(transport, unique)) == 20


def test_who_makes_the_messages_finds_a_connection_too(
    rabbitmq: RabbitMQ, transport: AmqpTransport, unique: str
) -> None:
    """Also where the pool has one alone, or others have taken the rest."""
    for limit in (1, 2):
        with Engine("s", broker=rabbitmq.url, task_default_queue=unique) as app:
            app.conf.update(broker_pool_limit=limit, broker_pool_acquire_timeout=10)

            @app.task
            def work(number: int) -> int:
                return number

            with app.batch(every=1) as outer, app.batch(every=1) as inner:
                for number in range(4):
                    work.apply_async((number,), producer=outer)
                    work.apply_async((number,), producer=inner)
                    work.delay(number)
    assert len(bodies(transport, unique)) == 2 * 12
