"""Redis shared with the real kombu and Celery: each reads what the other wrote, and recovers what it left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import celery
import kombu
import pytest

from engine.codec import Message, decode_task
from engine.model import BindingSpec, ExchangeSpec
from tests.transport.redis_support import Desk, bodies, desk_at, put, take, wait_until
from tools.brokers import Redis

pytestmark = [pytest.mark.redis, pytest.mark.interop]


@pytest.fixture
def desk(redis_server: Redis, unique: str) -> Iterator[Desk]:
    with desk_at(redis_server.url, unique) as made:
        yield made


@contextmanager
def kombu_channel(url: str, **options: Any) -> Iterator[Any]:
    with kombu.Connection(url, transport_options=options) as connection:
        channel = connection.channel()
        yield channel
        channel.close()


def get(channel: Any, queue: str, deadline_s: float = 10.0) -> Any:
    """One message by kombu."""
    deadline_mono_s = time.monotonic() + deadline_s
    while (message := channel.basic_get(queue)) is None:
        assert time.monotonic() < deadline_mono_s, f"nothing in {queue}"
        time.sleep(0.01)
    return message


def sweep(channel: Any) -> None:
    channel.qos._vrestore_count = 0
    channel.qos.restore_visible()


def test_what_celery_sends_is_received(desk: Desk) -> None:
    queue = desk.queue()
    with celery.Celery("app", broker=desk.url, set_as_current=False) as app:
        sent = app.send_task("tasks.add", (2, 3), {"z": None}, queue=queue, priority=4, headers={"own": 1})
    transport = desk.open()
    transport.consume([queue], 1)
    [delivery] = take(transport, 1)
    task = decode_task(delivery)
    assert (task.task, task.id, list(task.args), task.kwargs) == ("tasks.add", sent.id, [2, 3], {"z": None})
    assert delivery.properties["priority"] == 4
    assert delivery.header("own") == 1
    assert delivery.redelivered is False
    transport.ack([delivery])
    assert desk.raw.hget("unacked", delivery.tag) is None


def test_what_we_send_kombu_receives(desk: Desk) -> None:
    queue = desk.queue()
    headers = {"task": "tasks.add", "id": "1", "empty": [], "large": 2**60}
    transport = desk.open()
    put(transport, queue, "body", headers=headers, correlation_id="1", reply_to="r", priority=3)
    with kombu_channel(desk.url) as channel:
        message = get(channel, queue)
        assert message.body == b"body"
        assert message.headers == headers
        assert message.properties["correlation_id"] == "1"
        assert message.delivery_info["routing_key"] == queue
        message.ack()
    assert transport.queue_state(queue).ready == 0


def test_given_back_by_us_kombu_sees_redelivered(desk: Desk) -> None:
    queue = desk.queue()
    transport = desk.open()
    put(transport, queue, "x", headers={"empty": [], "nested": {"a": []}})
    transport.consume([queue], 1)
    transport.nack(take(transport, 1), requeue=True)
    with kombu_channel(desk.url) as channel:
        message = get(channel, queue)
        assert message.delivery_info["redelivered"] is True
        assert message.headers == {"empty": [], "nested": {"a": []}}
        message.ack()


def test_given_back_by_kombu_is_redelivered(desk: Desk) -> None:
    queue = desk.queue()
    transport = desk.open()
    put(transport, queue, "x")
    with kombu_channel(desk.url) as channel:
        get(channel, queue).requeue()
    transport.consume([queue], 1)
    [delivery] = take(transport, 1)
    assert delivery.redelivered is True
    transport.ack([delivery])


@pytest.mark.parametrize(("kind", "bound", "sent"), [("direct", "k", "k"), ("topic", "a.*.c", "a.b.c")])
def test_bindings_are_shared_both_ways(desk: Desk, kind: str, bound: str, sent: str) -> None:
    exchange = f"{desk.unique}-{kind}"
    ours = desk.queue("-ours", bindings=(BindingSpec(ExchangeSpec(exchange, kind), bound),))
    theirs = f"{desk.unique}-theirs"
    desk.queues.add(theirs)
    transport = desk.open()
    with kombu_channel(desk.url) as channel:
        entity = kombu.Queue(theirs, kombu.Exchange(exchange, kind), routing_key=bound)
        entity(channel).declare()
        producer = kombu.Producer(channel, kombu.Exchange(exchange, kind), auto_declare=True)
        producer.publish({"by": "kombu"}, routing_key=sent)
        assert transport.publish([Message(b"1", exchange=exchange, routing_key=sent)]) == [None]
        for queue in (ours, theirs):
            assert desk.raw.llen(queue) == 2
            assert desk.raw.sismember(
                f"_kombu.binding_permanent.{exchange}", _member(channel, kind, bound, queue)
            )
    desk.raw.delete(f"_kombu.binding.{exchange}", f"_kombu.binding_permanent.{exchange}")


def _member(channel: Any, kind: str, key: str, queue: str) -> str:
    _, pattern, _ = channel.exchange_types[kind].prepare_bind(queue, "", key, {})
    return channel.sep.join([key, pattern or "", queue])


def test_a_queue_that_celery_declared_exists(desk: Desk) -> None:
    queue = f"{desk.unique}-celery"
    desk.queues.add(queue)
    with kombu_channel(desk.url) as channel:
        kombu.Queue(queue, kombu.Exchange(queue), routing_key=queue)(channel).declare()
    transport = desk.open()
    transport.consume([queue], 1)
    assert transport.publish([Message(b"x", routing_key=queue)]) == [None]
    assert len(take(transport, 1)) == 1
    desk.raw.delete(f"_kombu.binding.{queue}", f"_kombu.binding_permanent.{queue}")


def test_parked_comes_back_by_kombus_sweep(desk: Desk) -> None:
    """Nobody of ours is there: a stock worker's sweep brings it back when due, and not before."""
    queue = desk.queue()
    transport = desk.open(visibility_timeout=100)
    due_at = time.time() + 1.0
    put(transport, queue, "late", due_at=due_at, priority=3)
    transport.close()
    with kombu_channel(desk.url, visibility_timeout=100) as channel:
        sweep(channel)
        assert channel.basic_get(queue) is None
        found: list[Any] = []
        wait_until(lambda: _swept(channel, queue, found), "the sweep to bring it")
        assert time.time() >= due_at - 0.05
        assert found[0].body == b"late"
        found[0].ack()
    assert desk.raw.hget("unacked", found[0].delivery_tag) is None


def _swept(channel: Any, queue: str, found: list[Any]) -> bool:
    sweep(channel)
    message = channel.basic_get(queue)
    if message is not None:
        found.append(message)
    return bool(found)


def test_swept_by_kombu_it_is_not_restored_again(desk: Desk) -> None:
    """Parked by us, brought back and taken by a stock worker: our recovery leaves it alone."""
    queue = desk.queue()
    transport = desk.open(visibility_timeout=100)
    put(transport, queue, "late", due_at=time.time() + 0.3)
    with kombu_channel(desk.url, visibility_timeout=100) as channel:
        found: list[Any] = []
        wait_until(lambda: _swept(channel, queue, found), "the sweep to bring it")
        transport.recover()
        assert transport.queue_state(queue).ready == 0
        assert transport.queue_state(queue).delayed == 0
        found[0].ack()


@pytest.mark.parametrize("kind", ["default", "direct", "topic"])
def test_we_recover_what_a_dead_kombu_worker_held(desk: Desk, kind: str) -> None:
    exchange = "" if kind == "default" else f"{desk.unique}-{kind}"
    key = {"default": desk.unique, "direct": "k", "topic": "a.b"}[kind]
    bound = {"default": "", "direct": "k", "topic": "a.#"}[kind]
    bindings = () if kind == "default" else (BindingSpec(ExchangeSpec(exchange, kind), bound),)
    queue = desk.queue(bindings=bindings)
    transport = desk.open(visibility_timeout=1.0)
    assert transport.publish([Message(b"x", exchange=exchange, routing_key=key, priority=6)]) == [None]
    with kombu_channel(desk.url) as channel:
        message = get(channel, queue)
        channel.qos._delivered.clear()  # as if it had been killed: nothing is restored
        channel.qos._dirty.clear()
    transport.consume([queue], 1)
    [delivery] = take(transport, 1)
    assert (delivery.body, delivery.tag, delivery.redelivered) == (b"x", message.delivery_tag, True)
    assert desk.raw.zscore("unacked_index", delivery.tag) is not None
    transport.ack([delivery])


def test_kombu_recovers_what_we_left(desk: Desk) -> None:
    queue = desk.queue()
    transport = desk.open(visibility_timeout=1.0, lease=1000.0)
    put(transport, queue, "x")
    transport.consume([queue], 1)
    take(transport, 1)
    transport.abandon()
    with kombu_channel(desk.url, visibility_timeout=1.0) as channel:
        found: list[Any] = []
        wait_until(lambda: _swept(channel, queue, found), "kombu's sweep to bring it")
        assert found[0].body == b"x"
        found[0].ack()


def test_a_renewed_claim_is_not_swept_by_kombu(desk: Desk) -> None:
    """Three times kombu's visibility timeout, renewed all along."""
    queue = desk.queue()
    transport = desk.open(visibility_timeout=1.0, lease=60.0)
    put(transport, queue, "x")
    transport.consume([queue], 1)
    held = take(transport, 1)
    with kombu_channel(desk.url, visibility_timeout=1.0) as channel:
        transport.guard()
        until = time.monotonic() + 3.0
        while time.monotonic() < until:
            sweep(channel)
            assert channel.basic_get(queue) is None
            time.sleep(0.05)
        transport.unguard()
    transport.ack(held)
    assert transport.receive(0.1) == []


def test_mixed_consumers_take_each_message_once(desk: Desk) -> None:
    queue = desk.queue()
    ours = desk.open()
    put(ours, queue, *map(str, range(200)))
    ours.consume([queue], 5)
    seen: list[str] = []
    with kombu_channel(desk.url) as channel:
        while len(seen) < 200:
            held = ours.receive(0.0)
            seen += bodies(held)
            ours.ack(held)
            message = channel.basic_get(queue)
            if message is not None:
                seen.append(message.body.decode())
                message.ack()
    assert sorted(map(int, seen)) == list(range(200))
    assert ours.receive(0.1) == []


def test_a_key_prefix_is_kombus(desk: Desk) -> None:
    prefix = f"{desk.unique}:"
    transport = desk.open(extra={"global_keyprefix": prefix})
    queue = desk.queue(transport=transport)
    put(transport, queue, "ours", "second")
    with kombu_channel(desk.url, global_keyprefix=prefix) as channel:
        message = get(channel, queue)
        assert message.body == b"ours"
        message.requeue()
        transport.consume([queue], 5)
        assert sorted(bodies(take(transport, 2))) == ["ours", "second"]
        transport.close()
        assert get(channel, queue).body in (b"ours", b"second")
    keys = [key.decode() for key in desk.raw.scan_iter(f"*{desk.unique}*")]
    assert all(key.startswith(prefix) or key == "engine.queues" for key in keys), keys
    desk.raw.delete(*desk.raw.scan_iter(f"{prefix}*"))
