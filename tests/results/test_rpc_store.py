"""Results as messages to the caller, over RabbitMQ and Redis, beside the real Celery's rpc:// backend."""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import celery
import pytest

from engine.codec import Message
from engine.errors import ConnectionFailed, ContentDisallowed
from engine.results.base import ResultMeta
from engine.results.rpc import RpcStore
from engine.transport import Transport, open_transport

pytestmark = pytest.mark.interop


@dataclass
class Broker:
    url: str
    unique: str
    stores: list[RpcStore] = field(default_factory=list)

    def store(self, oid: str = "", **options: Any) -> RpcStore:
        made = RpcStore(lambda: open_transport(self.url), oid=oid or f"{self.unique}-reply", **options)
        self.stores.append(made)
        return made

    def open(self) -> Transport:
        return open_transport(self.url)


@pytest.fixture(
    params=[pytest.param("amqp", marks=pytest.mark.amqp), pytest.param("redis", marks=pytest.mark.redis)]
)
def broker(request: pytest.FixtureRequest, unique: str) -> Iterator[Broker]:
    server = request.getfixturevalue("rabbitmq" if request.param == "amqp" else "redis_server")
    made = Broker(server.url, unique)
    yield made
    for store in made.stores:
        store.close()
    last = made.open()
    for oid in {store.oid for store in made.stores}:
        last.delete_queue(oid)
    last.close()


def success(task_id: str, oid: str, result: Any = 1) -> ResultMeta:
    return ResultMeta(task_id, "SUCCESS", result, reply_to=oid, correlation_id=task_id)


def test_from_worker_to_client(broker: Broker) -> None:
    client, worker = broker.store(), broker.store("worker")
    client.prepare("t1")
    worker.store([success("t1", client.oid, {"a": [1]}), ResultMeta("other", "SUCCESS")])
    meta = client.wait("t1", 10)
    assert meta is not None
    assert (meta.status, meta.result, meta.task_id) == ("SUCCESS", {"a": [1]}, "t1")
    assert client.get("t1") == meta, "kept after it was taken off the broker"
    assert client.get_many(["t1", "t2"]) == {"t1": meta}
    client.forget("t1")
    assert client.get("t1") is None


def test_a_reply_of_another_type_is_refused_to_who_asks(broker: Broker) -> None:
    strict, trusting = (
        broker.store(f"{broker.unique}-a"),
        broker.store(f"{broker.unique}-b", accept=["pickle"]),
    )
    publisher = broker.open()
    for store in (strict, trusting):
        store.prepare("t")
        body = pickle.dumps(ResultMeta("t", "SUCCESS", {1, 2}).to_wire())
        kind = "application/x-python-serialize"
        reply = Message(
            body, content_type=kind, content_encoding="binary", routing_key=store.oid, correlation_id="t"
        )
        assert publisher.publish([reply], mandatory=False) == [None]
    publisher.close()
    with pytest.raises(ContentDisallowed, match="pickle"):
        strict.wait("t", 10)
    with pytest.raises(ContentDisallowed):
        strict.get("t")
    meta = trusting.wait("t", 10)
    assert meta is not None
    assert meta.result == {1, 2}


def test_waiting_is_ended_by_the_reply(broker: Broker) -> None:
    client, worker = broker.store(), broker.store("worker")
    client.prepare("t")
    worker.store([ResultMeta("t", "STARTED", reply_to=client.oid)])
    timer = threading.Timer(0.3, worker.store, ([success("t", client.oid)],))
    timer.start()
    started_mono_s = time.monotonic()
    meta = client.wait("t", 10)
    assert meta is not None
    assert meta.status == "SUCCESS"
    assert time.monotonic() - started_mono_s < 3
    timer.join()
    assert client.wait("never", 0.2) is None


def test_many_as_they_come(broker: Broker) -> None:
    client, worker = broker.store(), broker.store("worker")
    client.prepare("0")
    ids = [str(number) for number in range(300)]
    worker.store([success(task_id, client.oid, int(task_id)) for task_id in reversed(ids)])
    assert sorted(meta.result for meta in client.iter_ready(ids, 10)) == list(range(300))
    assert list(client.iter_ready(["x", "0"], 0.2)) == [client.get("0")]


def test_a_reply_to_nobody_is_dropped(broker: Broker) -> None:
    worker = broker.store("worker")
    worker.store([success("t", f"{broker.unique}-gone")])
    if broker.url.startswith("redis"):
        last = broker.open()
        last.delete_queue(f"{broker.unique}-gone")
        last.close()


def test_a_late_failure_does_not_replace_a_success(broker: Broker) -> None:
    client, worker = broker.store(), broker.store("worker")
    client.prepare("t")
    worker.store([success("t", client.oid), ResultMeta("t", "FAILURE", {}, reply_to=client.oid)])
    worker.store([success("after", client.oid)])
    assert client.wait("after", 10) is not None
    found = client.get("t")
    assert found is not None
    assert found.status == "SUCCESS"


def test_what_is_no_result_is_skipped(broker: Broker) -> None:
    client, worker = broker.store(), broker.store("worker")
    client.prepare("t")
    other = broker.open()
    other.publish([Message(b"[]", routing_key=client.oid), Message(b"{nonsense", routing_key=client.oid)])
    other.close()
    worker.store([success("t", client.oid)])
    assert client.wait("t", 10) is not None


def test_celery_reads_our_reply(broker: Broker) -> None:
    with celery.Celery("app", broker=broker.url, backend="rpc://", set_as_current=False) as app:
        queue = f"{broker.unique}-tasks"
        sent = app.send_task("tasks.add", (2, 3), queue=queue)
        transport = broker.open()
        transport.consume([queue], 1)
        [delivery] = transport.receive(10)
        worker = broker.store("worker")
        reply_to = delivery.properties["reply_to"]
        worker.store([success(sent.id, reply_to, 5)])
        transport.ack([delivery])
        assert sent.get(timeout=10) == 5
        app.backend.result_consumer.stop()
        for name in (queue, reply_to):
            transport.delete_queue(name)
        transport.close()


def test_we_read_celerys_reply(broker: Broker) -> None:
    client = broker.store()
    client.prepare("t")
    with celery.Celery("app", broker=broker.url, backend="rpc://", set_as_current=False) as app:
        request = app.Task.request_stack = type("Request", (), {})()
        request.reply_to, request.correlation_id = client.oid, "t"
        for name in ("group", "parent_id", "children", "id", "task"):
            setattr(request, name, None)
        request.children = []
        app.backend.store_result("t", {"sum": 5}, "SUCCESS", request=request)
    meta = client.wait("t", 10)
    assert meta is not None
    assert meta.result == {"sum": 5}


def test_the_queue_is_celerys(broker: Broker) -> None:
    spec = broker.store(expires_s=60).queue
    with celery.Celery("app", broker=broker.url, set_as_current=False, result_expires=60) as app:
        app.conf.result_backend = "rpc://"
        binding = app.backend.binding
        assert (spec.durable, spec.auto_delete) == (binding.durable, binding.auto_delete)
        assert spec.arguments["x-expires"] == binding.expires * 1000


def test_a_lost_connection_is_opened_again(broker: Broker) -> None:
    client, worker = broker.store(), broker.store("worker")
    client.prepare("t")
    worker.store([success("first", client.oid)])
    assert client.wait("first", 10) is not None
    for store in (client, worker):
        for transport in (store._consumer, store._publisher):
            if transport is not None:
                transport.abandon()
    deadline_mono_s = time.monotonic() + 10
    while client.wait("t", 1) is None:
        assert time.monotonic() < deadline_mono_s
        worker.store([success("t", client.oid)])


def test_nobody_there() -> None:
    def refuse() -> Transport:
        raise ConnectionFailed("nobody there")

    store = RpcStore(refuse, oid="x")
    with pytest.raises(ConnectionFailed):
        store.prepare("t")
    with pytest.raises(ConnectionFailed):
        store.store([success("t", "y")])
    store.close()


def test_a_forked_child_leaves_its_parents_replies(broker: Broker) -> None:
    client = broker.store()
    client.prepare("t")
    pid = os.fork()
    if pid == 0:
        try:
            own = RpcStore(broker.open, oid=f"{broker.unique}-child")
            client.store([success("t", client.oid, "from the child")])  # publishes on a connection of its own
            own.close()
            os._exit(0 if client._consumer is None else 1)
        finally:
            os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0
    meta = client.wait("t", 10)
    assert meta is not None
    assert meta.result == "from the child"
