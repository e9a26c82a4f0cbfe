"""Claims on Redis: what is written where, order, duplicates, and waiting without polling."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.codec import Message, encode_envelope
from tests.transport.redis_support import Desk, bodies, desk_at, put, take, wait_until
from tools.brokers import Redis

pytestmark = pytest.mark.redis


@pytest.fixture
def desk(redis_server: Redis, unique: str) -> Iterator[Desk]:
    with desk_at(redis_server.url, unique) as made:
        yield made


def test_a_claim_is_in_kombus_records(desk: Desk) -> None:
    queue = desk.queue()
    transport = desk.open(visibility_timeout=3600)
    put(transport, queue, "x")
    [raw] = desk.raw.lrange(queue, 0, -1)
    transport.consume([queue], 1)
    [delivery] = take(transport, 1)
    message, exchange, key = json.loads(desk.raw.hget("unacked", delivery.tag))
    assert message == json.loads(raw)
    assert (exchange, key) == ("", queue)
    assert delivery.tag == message["properties"]["delivery_tag"]
    assert abs(desk.raw.zscore("unacked_index", delivery.tag) - time.time()) < 5
    assert desk.raw.llen(queue) == 0
    transport.ack([delivery])
    transport.queue_state(queue)  # what was sent before is done
    assert desk.raw.hget("unacked", delivery.tag) is None
    assert desk.raw.zscore("unacked_index", delivery.tag) is None


def test_nothing_of_ours_is_left_behind(desk: Desk) -> None:
    queue = desk.queue()
    transport = desk.open()
    transport.consume([queue], 10)
    put(transport, queue, *"abc")
    transport.ack(take(transport, 3))
    token = transport._claims.token
    transport.close()
    assert token is not None
    assert desk.raw.zscore("engine.owners", token) is None
    assert not desk.raw.exists(f"engine.claims.{token}")
    assert not desk.raw.sismember(f"engine.host.{token.partition('/')[0]}", token)


def test_given_back_is_first_again(desk: Desk) -> None:
    queue = desk.queue()
    transport = desk.open()
    put(transport, queue, *"abcd")
    transport.consume([queue], 3)
    held = take(transport, 3)
    transport.nack(held, requeue=True)
    again = take(transport, 3)
    assert bodies(again) == ["a", "b", "c"]
    assert all(delivery.redelivered for delivery in again)
    assert again[0].headers == {}


@pytest.mark.parametrize("renewed", [False, True])
def test_what_a_transport_leaves_keeps_its_order(desk: Desk, renewed: bool) -> None:
    """Also of claims whose scores a renewal has moved, and of more than Redis keeps in a compact form."""
    queue = desk.queue()
    transport = desk.open()
    names = [f"{number:03}" for number in range(300)]
    put(transport, queue, *names)
    transport.consume([queue], 300)
    assert bodies(take(transport, 300)) == names
    if renewed:
        transport.refresh()
    transport.close()
    other = desk.open()
    other.consume([queue], 300)
    assert bodies(take(other, 300)) == names


def test_a_claim_of_some_is_kept_where_a_tag_is_found_at_once(desk: Desk) -> None:
    """And nothing stays of what made Redis do so."""
    queue = desk.queue()
    transport = desk.open()
    put(transport, queue, *"abcdefghij")
    transport.consume([queue], 10)
    deliveries = take(transport, 10)
    claims = f"engine.claims.{transport._claims.token}"
    assert desk.raw.object("encoding", claims) == b"hashtable"
    assert desk.raw.object("encoding", "unacked_index") == b"skiplist"
    tags = {delivery.tag.encode() for delivery in deliveries}
    assert set(desk.raw.hkeys(claims)) == tags
    assert all(len(tag) < 64 for tag in desk.raw.zrange("unacked_index", 0, -1))


def test_priorities_round_down_to_a_step(desk: Desk) -> None:
    queue = desk.queue()
    transport = desk.open()
    for priority in (9, 5, 0, 2, 7, None):
        put(transport, queue, str(priority), priority=priority)
    sizes = [desk.raw.llen(key) for key in (queue, *(f"{queue}\x06\x16{step}" for step in (3, 6, 9)))]
    assert sizes == [3, 1, 1, 1]
    transport.consume([queue], 10)
    assert bodies(take(transport, 6)) == ["0", "2", "None", "5", "7", "9"]


def test_a_given_back_message_keeps_its_priority(desk: Desk) -> None:
    queue = desk.queue()
    transport = desk.open()
    put(transport, queue, "x", priority=6)
    transport.consume([queue], 1)
    transport.nack(take(transport, 1), requeue=True)
    transport.queue_state(queue)
    assert desk.raw.llen(f"{queue}\x06\x166") == 1


def test_queues_take_turns(desk: Desk) -> None:
    first, second = desk.queue("-1"), desk.queue("-2")
    transport = desk.open()
    put(transport, first, *["1"] * 5)
    put(transport, second, *["2"] * 5)
    transport.consume([first, second], 1)
    seen = []
    for _ in range(6):
        held = take(transport, 1)
        seen += bodies(held)
        transport.ack(held)
    assert seen == ["1", "2"] * 3


def test_a_copy_of_what_is_in_flight_is_dropped(desk: Desk) -> None:
    """A publish that was retried by a client leaves the same envelope twice."""
    queue = desk.queue()
    transport = desk.open()
    envelope = encode_envelope(Message(b"once", routing_key=queue), f"{queue}-tag")
    desk.raw.lpush(queue, envelope, envelope)
    transport.consume([queue], 10)
    held = take(transport, 1)
    assert transport.receive(0.2) == []
    transport.ack(held)
    assert transport.receive(0.1) == []
    assert transport.queue_state(queue).ready == 0


def test_one_tag_in_two_queues_is_two_messages(desk: Desk) -> None:
    """kombu gives every queue of a topic exchange the same tag."""
    first, second = desk.queue("-1"), desk.queue("-2")
    envelope = encode_envelope(Message(b"both", exchange="x", routing_key="k"), f"{first}-tag")
    desk.raw.lpush(first, envelope)
    desk.raw.lpush(second, envelope)
    transport = desk.open()
    transport.consume([first, second], 10)
    held = take(transport, 2)
    assert {delivery.queue for delivery in held} == {first, second}
    transport.nack(held, requeue=True)
    again = take(transport, 2)
    assert {delivery.queue for delivery in again} == {first, second}
    transport.ack(again)
    assert transport.receive(0.1) == []


def test_a_message_that_is_none_is_delivered_as_it_is(desk: Desk) -> None:
    queue = desk.queue()
    transport = desk.open()
    desk.raw.lpush(queue, b"\x00not json")
    put(transport, queue, "good")
    transport.consume([queue], 10)
    bad, good = take(transport, 2)
    assert bad.body == b"\x00not json"
    assert good.body == b"good"
    transport.nack([bad], requeue=False)
    transport.ack([good])
    assert transport.receive(0.1) == []


@pytest.mark.parametrize("tag", [b"\xff\xfe", b"\xed\xa0\x80"])
def test_a_tag_that_is_no_text_keeps_nothing_from_being_claimed(desk: Desk, tag: bytes) -> None:
    queue = desk.queue()
    transport = desk.open()
    transport.consume([queue], 2)
    desk.raw.lpush(queue, b'{"delivery_tag": "' + tag + b'"}')
    put(transport, queue, "after")
    deliveries = take(transport, 2)
    assert deliveries[1].body == b"after"
    transport.nack(deliveries[:1], requeue=True)
    transport.ack(deliveries[1:])
    [again] = take(transport, 1)
    assert again.tag == tag
    transport.ack([again])
    transport.queue_state(queue)
    assert desk.raw.hget("unacked", tag) is None


def test_a_tag_among_the_headers_does_not_confuse(desk: Desk) -> None:
    queue = desk.queue()
    transport = desk.open()
    put(transport, queue, "x", headers={"delivery_tag": "wrong", "a": {"delivery_info": {}}, "priority": 9})
    transport.consume([queue], 1)
    [first] = take(transport, 1)
    assert first.tag != "wrong"
    transport.nack([first], requeue=True)
    [again] = take(transport, 1)
    assert again.redelivered
    assert again.headers == {"delivery_tag": "wrong", "a": {"delivery_info": {}}, "priority": 9}
    transport.ack([again])


def test_rejected_goes_to_the_dead_letter_queue(desk: Desk) -> None:
    dead = desk.queue("-dead")
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
    queue = desk.queue(arguments=arguments)
    transport = desk.open()
    put(transport, queue, "x", headers={"kept": [1, []]})
    transport.consume([queue], 1)
    transport.nack(take(transport, 1), requeue=False)
    delivery = transport.get(dead)
    assert delivery is not None
    assert delivery.body == b"x"
    assert delivery.headers["kept"] == [1, []]
    assert delivery.headers["x-first-death-queue"] == queue
    assert delivery.headers["x-first-death-reason"] == "rejected"
    transport.ack([delivery])
    assert transport.queue_state(queue).ready == 0


def test_scripts_flushed_by_somebody_are_loaded_again(desk: Desk) -> None:
    queue = desk.queue()
    transport = desk.open()
    transport.consume([queue], 10)
    desk.raw.script_flush()
    put(transport, queue, "a")
    [held] = take(transport, 1)
    desk.raw.script_flush()
    transport.ack([held])
    assert transport.receive(0.1) == []
    assert desk.raw.hget("unacked", held.tag) is None
    desk.raw.script_flush()
    put(transport, queue, "later", due_at=time.time() + 0.2)
    assert bodies(take(transport, 1)) == ["later"]


@pytest.mark.alone
def test_an_idle_transport_starts_within_milliseconds_and_hardly_asks(tmp_path: Path, unique: str) -> None:
    server = Redis(tmp_path / "own")
    server.start()
    try:
        with desk_at(server.url, unique) as desk:
            queues = [desk.queue(f"-{number}") for number in range(3)]
            transport = desk.open()
            transport.consume(queues, 1)
            assert transport.receive(0.05) == []
            before = desk.raw.info("commandstats")["cmdstat_evalsha"]["calls"]
            started_mono_s = time.monotonic()
            assert transport.receive(3.0) == []
            calls = desk.raw.info("commandstats")["cmdstat_evalsha"]["calls"] - before
            assert calls <= 2 * (time.monotonic() - started_mono_s) + 4
            before += calls
            for _ in range(3):  # as a worker's process waits: one look each, a recovery and a claim together
                assert transport.receive(1.0) == []
            assert desk.raw.info("commandstats")["cmdstat_evalsha"]["calls"] - before <= 2 * 3 + 1
            delays = [_delay(desk, transport, queues[round_ % 3]) for round_ in range(10)]
            assert sorted(delays)[5] < 0.02, delays
    finally:
        server.stop()


def _delay(desk: Desk, transport: object, queue: str) -> float:
    """Seconds from the LPUSH of a plain client to the delivery."""
    envelope = encode_envelope(Message(b"x", routing_key=queue), f"{queue}-{time.time()}")
    pushed: list[float] = []

    def push() -> None:
        pushed.append(time.monotonic())
        desk.raw.lpush(f"{queue}\x06\x163", envelope)

    timer = threading.Timer(0.15, push)
    timer.start()
    held = transport.receive(5)  # type: ignore[attr-defined]
    arrived = time.monotonic()
    timer.join()
    transport.ack(held)  # type: ignore[attr-defined]
    assert len(held) == 1
    return arrived - pushed[0]


def test_a_queue_with_x_expires_is_deleted_when_unused(desk: Desk) -> None:
    queue = desk.queue(arguments={"x-expires": 1200})
    transport = desk.open()
    other = desk.open()
    put(transport, queue, "unread")
    transport.consume([queue], 1)
    held = take(transport, 1)
    transport.nack(held, requeue=True)
    deadline_mono_s = time.monotonic() + 2.0
    while time.monotonic() < deadline_mono_s:  # consumed: it stays
        for delivery in transport.receive(0.2):
            transport.nack([delivery], requeue=True)
        other.recover()
    assert transport.queue_state(queue).ready == 1
    transport.cancel()
    wait_until(lambda: other.recover() == 0 and not desk.raw.exists(queue), "the queue to expire")
    assert desk.raw.hget("engine.queues", queue) is None


def test_without_tracking_it_looks_once_a_second(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    queue = desk.queue()
    desk.raw.acl_setuser(
        desk.unique, enabled=True, passwords=["+secret"], keys="*", commands=["+@all", "-client|tracking"]
    )
    try:
        transport = desk.open(desk.url.replace("//", f"//{desk.unique}:secret@"))
        assert "once a second" in caplog.text
        transport.consume([queue], 1)
        timer = threading.Timer(0.2, put, (desk.open(), queue, "x"))
        timer.start()
        started_mono_s = time.monotonic()
        [held] = take(transport, 1)
        assert time.monotonic() - started_mono_s < 2.5
        transport.ack([held])
        timer.join()
    finally:
        transport.close()
        desk.raw.acl_deluser(desk.unique)


def test_who_only_publishes_leaves_no_token(desk: Desk) -> None:
    queue = desk.queue()
    publisher = desk.open()
    put(publisher, queue, "x")
    token = publisher._claims.token
    assert token is not None
    assert not desk.raw.sismember(f"engine.host.{token.partition('/')[0]}", token)
    assert publisher.get(queue) is not None
    assert desk.raw.sismember(f"engine.host.{token.partition('/')[0]}", token)
