"""The frame decoder: what py-amqp writes is read; any chunking gives the same; channels interleave."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.codec import (
    HEARTBEAT_FRAME,
    Delivery,
    FrameDecoder,
    Heartbeat,
    Message,
    Method,
    Returned,
    encode_acks,
    encode_method,
)
from tests.codec.amqp_oracle import deliver, frame, get_ok, returned, split_frames
from tests.codec.amqp_values import BARE, FULL, PLAIN, messages_for_amqp

BIG = Message(bytes(range(256)) * 1500, routing_key="big")  # 384,000 bytes


def plain(item: Any) -> Any:
    """An item as values that compare."""
    if isinstance(item, Delivery):
        return (
            item.tag,
            item.epoch,
            item.queue,
            item.consumer_tag,
            item.redelivered,
            item.delivery_count,
            item.to_message(),
        )
    if isinstance(item, Returned):
        return item.channel, item.reply_code, item.reply_text, item.exchange, item.routing_key, item.message
    return item


def read(chunks: list[bytes], **options: int) -> list[Any]:
    decoder = FrameDecoder(**options)
    decoder.name_consumer("ctag", "celery")
    items = [plain(item) for chunk in chunks for item in decoder.feed(chunk)]
    assert decoder.buffered == 0
    return items


def cut(data: bytes, points: list[int]) -> list[bytes]:
    ends = [*sorted(point % (len(data) + 1) for point in points), len(data)]
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


STREAM = b"".join(
    [
        encode_method(0, 10, 30, (2047, 131072, 60)),
        deliver(PLAIN, tag=1),
        HEARTBEAT_FRAME,
        deliver(FULL, tag=2, redelivered=True, frame_max=4096),
        encode_acks(1, [(1, False), (2, True)]),
        returned(PLAIN),
        get_ok(FULL, tag=3, left=9),
        deliver(BARE, tag=4, consumer_tag="other", channel=2),
        deliver(Message(b"y" * 9000), tag=5, frame_max=4096),
        encode_method(1, 20, 41),
    ]
)
ITEMS = [
    Method(0, 10, 30, (2047, 131072, 60)),
    (1, 7, "celery", "ctag", False, None, PLAIN),
    Heartbeat(),
    (2, 7, "celery", "ctag", True, None, FULL),
    Method(1, 60, 80, (1, False)),
    Method(1, 60, 80, (2, True)),
    (1, 312, "NO_ROUTE", "", "celery", PLAIN),
    (3, 7, "", "", False, None, FULL),
    (4, 7, "", "other", False, None, BARE),
    (5, 7, "celery", "ctag", False, None, Message(b"y" * 9000)),
    Method(1, 20, 41),
]


def test_everything_a_broker_sends_in_one_chunk() -> None:
    assert read([STREAM], epoch=7) == ITEMS


def test_one_byte_at_a_time_gives_the_same() -> None:
    assert read([STREAM[i : i + 1] for i in range(len(STREAM))], epoch=7) == ITEMS


@pytest.mark.parametrize("size", [2, 3, 7, 8, 9, 100, 4095, 4096, 4097])
def test_chunks_of_any_size_give_the_same(size: int) -> None:
    assert read([STREAM[i : i + size] for i in range(0, len(STREAM), size)], epoch=7) == ITEMS


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_any_chunking_gives_the_same(points: list[int]) -> None:
    assert read(cut(STREAM, points), epoch=7) == ITEMS


@given(st.lists(messages_for_amqp, max_size=4), st.randoms(use_true_random=False))
def test_what_py_amqp_delivers_is_read(batch: list[Message], chance: random.Random) -> None:
    data = b"".join(deliver(message, tag=tag) for tag, message in enumerate(batch))
    chunks = cut(data, [chance.randrange(len(data) + 1) for _ in range(5)])
    assert read(chunks) == [
        (tag, 0, "celery", "ctag", False, None, message) for tag, message in enumerate(batch)
    ]


@pytest.mark.parametrize("chunk", [1000, 65536, 10**6])
def test_a_big_body_is_joined(chunk: int) -> None:
    data = deliver(BIG) + deliver(PLAIN, tag=2)
    items = read([data[i : i + chunk] for i in range(0, len(data), chunk)])
    assert [item[-1] for item in items] == [BIG, PLAIN]


def test_channels_interleave() -> None:
    streams = [
        [frame(*parts) for parts in split_frames(data)]
        for data in (
            deliver(Message(b"a" * 10_000), tag=1, channel=1, frame_max=4096),
            deliver(Message(b"b" * 20_000), tag=2, channel=2, frame_max=4096),
            returned(PLAIN, channel=3),
            deliver(BARE, tag=4, channel=65535),
        )
    ]
    mixed = []
    while any(streams):
        mixed += [stream.pop(0) for stream in streams if stream]
        mixed.append(HEARTBEAT_FRAME)
    items = [item for item in read([b"".join(mixed)]) if item != Heartbeat()]
    assert [item[-1].body for item in items] == [b"", PLAIN.body, b"a" * 10_000, b"b" * 20_000]


@pytest.mark.parametrize("chunk", [1, 7, 4095, 5000, 8199, 8200, 20_000, 300_000])
def test_large_frames_of_two_channels_and_heartbeats_are_cut_anywhere(chunk: int) -> None:
    bodies = [bytes(range(256)) * size for size in (20, 31, 32, 100)]
    streams = [
        [
            frame(*parts)
            for tag, body in enumerate(bodies)
            for parts in split_frames(deliver(Message(body), tag=tag, channel=channel, frame_max=8192))
        ]
        for channel in (1, 2)
    ]
    mixed = b"".join(first + second + HEARTBEAT_FRAME for first, second in zip(*streams, strict=True))
    items = read([mixed[start : start + chunk] for start in range(0, len(mixed), chunk)])
    assert [item[-1].body for item in items if item != Heartbeat()] == [
        body for body in bodies for _ in range(2)
    ]
    assert items.count(Heartbeat()) == len(streams[0])


def test_an_empty_chunk_and_buffers_of_any_kind() -> None:
    decoder = FrameDecoder()
    assert decoder.feed(b"") == []
    for data in (bytearray(HEARTBEAT_FRAME), memoryview(HEARTBEAT_FRAME)):
        assert decoder.feed(data) == [Heartbeat()]
    reused = bytearray(deliver(PLAIN))
    (delivery,) = decoder.feed(reused)
    reused[:] = bytes(len(reused))  # the transport reads its next bytes into the same buffer
    assert isinstance(delivery, Delivery)
    assert delivery.to_message() == PLAIN


def test_buffered_counts_what_is_incomplete() -> None:
    decoder = FrameDecoder()
    data = deliver(Message(b"x" * 10_000), frame_max=4096)
    decoder.feed(data[:5])
    assert decoder.buffered == 5
    decoder.feed(data[5:-1])
    assert decoder.buffered == 10_000 + 8 - 1  # two parts of the body, and a third frame without its end
    assert len(decoder.feed(data[-1:])) == 1
    assert decoder.buffered == 0


def test_consumers_are_named_and_renamed() -> None:
    decoder = FrameDecoder()
    data = deliver(PLAIN)
    queues = []
    for queue in ("one", "two"):
        decoder.feed(data)
        decoder.name_consumer("ctag", queue)
        queues += [item.queue for item in decoder.feed(data) if isinstance(item, Delivery)]
    assert queues == ["one", "two"]
    with pytest.raises(TypeError):
        decoder.name_consumer("ctag", None)  # type: ignore[arg-type]


def test_repeated_names_are_one_object() -> None:
    first, second = FrameDecoder().feed(deliver(FULL) * 2)
    assert isinstance(first, Delivery)
    assert isinstance(second, Delivery)
    assert first.exchange is second.exchange
    assert first.routing_key is second.routing_key
    assert first.consumer_tag is second.consumer_tag
    assert next(iter(first.headers)) is next(iter(second.headers))


def test_the_epoch_is_stamped_and_frame_max_can_be_raised() -> None:
    decoder = FrameDecoder(frame_max=4096)
    decoder.frame_max = 131072  # as connection.tune agreed on it
    decoder.epoch = 3
    (delivery,) = decoder.feed(deliver(Message(b"x" * 5000)))
    assert isinstance(delivery, Delivery)
    assert delivery.epoch == 3


def test_a_quorum_queues_count_is_told() -> None:
    first, second = FrameDecoder().feed(deliver(Message(headers={"x-delivery-count": 2})) + deliver(PLAIN))
    assert isinstance(first, Delivery)
    assert isinstance(second, Delivery)
    assert (first.delivery_count, second.delivery_count) == (2, None)


@pytest.mark.parametrize(
    "options", [{"frame_max": -1}, {"frame_max": 2**32}, {"max_message_size": -1}, {"frame_max": "x"}]
)
def test_bounds_that_are_none_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises((OverflowError, TypeError)):
        FrameDecoder(**options)
