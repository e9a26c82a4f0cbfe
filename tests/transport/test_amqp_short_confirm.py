"""A message alone whose confirm is the broker's next word, and whatever else that word may be."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from engine.codec import FrameDecoder
from engine.errors import PublishRefused, PublishUnknown, Unroutable
from engine.model import QueueSpec
from engine.transport import amqp_publish
from engine.transport.amqp import AmqpTransport
from tests.transport.amqp_support import opened, text
from tools.brokers import RabbitMQ

pytestmark = pytest.mark.amqp


@pytest.fixture(autouse=True)
def _always_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long ago the last word of the broker was."""
    monkeypatch.setattr(amqp_publish, "READ_AT_LEAST_EVERY_S", 3600.0)


@pytest.fixture
def transport(rabbitmq: RabbitMQ, unique: str) -> Iterator[AmqpTransport]:
    with opened(rabbitmq.url, client_name=unique) as transport:
        transport.declare(QueueSpec(unique, arguments={"x-max-length": 3, "x-overflow": "reject-publish"}))
        assert transport.publish([text("first", unique)]) == [None]
        yield transport
        transport.delete_queue(unique)


def short_ways(transport: AmqpTransport) -> list[bool]:
    """How each wait for a confirm ends from now on: shortly or not."""
    connection = transport._publisher.connection  # type: ignore[union-attr]
    answers, seen = connection.answers, []

    def noted(frame: bytes, otherwise: Callable[[], None]) -> bool:
        seen.append(False)
        seen[-1] = answers(frame, otherwise)
        return seen[-1]

    connection.answers = noted  # type: ignore[method-assign]
    return seen


def test_the_next_word_is_the_confirm(transport: AmqpTransport, unique: str) -> None:
    seen = short_ways(transport)
    transport.purge(unique)
    for number in range(3):
        assert transport.publish_one(text(str(number), unique), True, True, 5.0) is None
    assert seen == [True] * 3
    assert transport.publish([text("4", f"{unique}-none")])[0].__class__ is Unroutable
    assert transport.queue_state(unique).ready == 3


def test_it_is_something_else(transport: AmqpTransport, unique: str) -> None:
    """A return before the confirm, a refusal, the end of the channel; and each time the next one arrives."""
    seen = short_ways(transport)
    assert isinstance(transport.publish_one(text("1", f"{unique}-none"), True, True, 5.0), Unroutable)
    assert transport.publish_one(text("2", unique), True, True, 5.0) is None
    assert transport.publish_one(text("3", unique), True, True, 5.0) is None
    assert isinstance(transport.publish_one(text("4", unique), True, True, 5.0), PublishRefused)  # it is full
    transport.purge(unique)
    assert transport.publish_one(text("5", unique), True, True, 5.0) is None
    missing = text("6", unique, exchange=f"{unique}-missing")
    assert isinstance(transport.publish_one(missing, True, True, 5.0), Unroutable)
    assert transport.publish_one(text("7", unique), True, True, 5.0) is None
    assert transport.publish_one(text("8", unique), True, True, 5.0) is None
    assert seen.count(False) == 3
    assert seen.count(True) >= 4
    assert transport.queue_state(unique).ready == 3


def test_a_confirm_that_is_late(own_broker: RabbitMQ, unique: str) -> None:
    """Later than one wait; then later than the deadline: the next message must not take it for its own."""
    with opened(own_broker.url) as transport:
        transport.declare(QueueSpec(unique))
        assert transport.publish([text("0", unique)]) == [None]
        seen = short_ways(transport)
        own_broker.signal(signal.SIGSTOP)
        waking = threading.Timer(1.6, own_broker.signal, [signal.SIGCONT])
        waking.start()
        started_mono_s = time.monotonic()
        assert transport.publish_one(text("1", unique), True, True, 30.0) is None
        assert time.monotonic() - started_mono_s > 1.5
        waking.join()
        own_broker.signal(signal.SIGSTOP)
        assert isinstance(transport.publish_one(text("2", unique), True, True, 1.2), PublishUnknown)
        own_broker.signal(signal.SIGCONT)
        assert isinstance(transport.publish_one(text("3", f"{unique}-none"), True, True, 30.0), Unroutable)
        assert transport.publish_one(text("4", unique), True, True, 30.0) is None
        assert seen[:2] == [False, False]
        assert transport.queue_state(unique).ready == 4


def test_a_broker_that_dies(own_broker: RabbitMQ, unique: str) -> None:
    with opened(own_broker.url) as transport:
        transport.declare(QueueSpec(unique))
        assert transport.publish([text("0", unique)]) == [None]
        own_broker.signal(signal.SIGSTOP)
        killing = threading.Timer(0.3, own_broker.kill)
        killing.start()
        assert isinstance(transport.publish_one(text("1", unique), True, True, 30.0), PublishUnknown)
        killing.join()


def test_the_middle_of_a_frame_is_seen() -> None:
    decoder = FrameDecoder()
    assert decoder.between_frames
    frame = b"\x01\x00\x01\x00\x00\x00\x0d\x00\x3c\x00\x50" + bytes(7) + b"\x01\x00\xce"
    for cut in range(1, len(frame)):
        decoder.feed(frame[:cut])
        assert not decoder.between_frames
        decoder.feed(frame[cut:])
        assert decoder.between_frames
    header = b"\x02\x00\x01\x00\x00\x00\x0e\x00\x3c\x00\x00" + (400_000).to_bytes(8, "big") + b"\x00\x00\xce"
    deliver = b"\x00\x3c\x00\x3c\x01t" + (1).to_bytes(8, "big") + b"\x00\x00\x01q"
    decoder.feed(b"\x01\x00\x01" + len(deliver).to_bytes(4, "big") + deliver + b"\xce" + header)
    assert decoder.between_frames
    decoder.feed(b"\x03\x00\x01" + (100_000).to_bytes(4, "big"))
    assert not decoder.between_frames
    decoder.feed(bytes(100_000))
    assert not decoder.between_frames
    decoder.feed(b"\xce")
    assert decoder.between_frames
