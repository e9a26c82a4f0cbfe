"""Connecting, closing, connecting again; what a forked child may do; what dies with a process."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

import pytest

from engine.errors import TransportClosed
from engine.model import QueueSpec
from engine.transport import Transport, mask_url
from tests.conformance.backends import Backend, bodies, publish, take, text, wait_ready, wait_until


def test_connecting_twice_is_once(transport: Transport) -> None:
    epoch = transport.epoch
    assert epoch >= 1
    transport.connect()
    assert transport.epoch == epoch
    assert transport.connected


def test_closing_twice_is_once(transport: Transport) -> None:
    transport.close()
    transport.close()
    transport.abandon()
    assert not transport.connected


def test_closed_is_closed(transport: Transport, queue: QueueSpec) -> None:
    transport.close()
    with pytest.raises(TransportClosed):
        transport.receive(0)
    with pytest.raises(TransportClosed):
        transport.queue_state(queue.name)


def test_closed_can_connect_again(transport: Transport, queue: QueueSpec) -> None:
    epoch = transport.epoch
    transport.close()
    transport.connect()
    assert transport.epoch == epoch + 1
    publish(transport, text("x", queue.name))
    transport.consume([queue.name], 1)
    assert bodies(take(transport, 1)) == ["x"]


@pytest.mark.over_tls
def test_reconnecting_consumes_as_before(transport: Transport, queue: QueueSpec) -> None:
    transport.consume([queue.name], 2)
    transport.reconnect()
    publish(transport, *(text(body, queue.name) for body in "abc"))
    held = take(transport, 2)
    assert bodies(held) == ["a", "b"]
    assert transport.receive(0.1) == []
    transport.ack(held)
    assert bodies(take(transport, 1)) == ["c"]


@pytest.mark.over_tls
def test_closing_leaves_no_descriptor(backend: Backend, queue: QueueSpec) -> None:
    transport = backend.open()  # warmed up: what a library opens once for all is open now
    transport.close()
    before = _descriptors()
    transport = backend.open()
    publish(transport, text("x", queue.name))
    transport.consume([queue.name], 1)
    take(transport, 1)
    transport.guard()
    transport.unguard()
    transport.close()
    wait_until(lambda: len(_descriptors()) <= len(before), "descriptors to be closed", 5)


def test_passwords_are_not_shown(backend: Backend) -> None:
    if "@" not in backend.url:
        url = backend.url.replace("://", "://someone:canary-secret@", 1)
    else:
        url = backend.url
    assert "canary-secret" not in mask_url(url)
    assert "canary-secret" not in repr(backend.open())


# -- fork ----------------------------------------------------------------------------------------------


def _descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # the one that was listing
            continue
    return found


def _in_child(transport: Transport, queue: str, opened: dict[int, str]) -> dict[str, Any]:
    now = _descriptors()
    found: dict[str, Any] = {
        "inherited": [link for fd, link in opened.items() if now.get(fd) == link],
        "connected": transport.connected,
        "refused": [],
    }
    for name, use in {
        "publish": lambda: transport.publish([text("child", queue)]),
        "receive": lambda: transport.receive(0),
        "queue_state": lambda: transport.queue_state(queue),
    }.items():
        try:
            use()
        except TransportClosed:
            found["refused"].append(name)
    transport.close()
    return found


def _fork(work: Any) -> dict[str, Any]:
    """Run `work` in a forked child; what it returned."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(reading)
            os.write(writing, json.dumps(work()).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as report:
        answer = report.read()
    assert os.waitpid(pid, 0)[1] == 0
    found: dict[str, Any] = json.loads(answer)
    return found


@pytest.mark.over_tls
def test_a_forked_child_has_nothing_of_the_connection(backend: Backend, queue: QueueSpec) -> None:
    before = _descriptors()
    transport = backend.open()
    publish(transport, text("a", queue.name), text("b", queue.name))
    transport.consume([queue.name], 2)
    held = take(transport, 2)
    opened = {fd: link for fd, link in _descriptors().items() if before.get(fd) != link}

    found = _fork(lambda: _in_child(transport, queue.name, opened))
    assert found == {"inherited": [], "connected": False, "refused": ["publish", "receive", "queue_state"]}

    assert transport.connected
    transport.ack(held[:1])
    transport.nack(held[1:], requeue=True)
    [again] = take(transport, 1)
    assert again.body == b"b"
    transport.ack([again])
    publish(transport, text("c", queue.name))
    assert bodies(take(transport, 1)) == ["c"]


def test_a_forked_child_may_open_its_own(backend: Backend, transport: Transport, queue: QueueSpec) -> None:
    backend.needs("crosses_processes")

    def publish_in_child() -> bool:
        own = backend.open()
        publish(own, text("from the child", queue.name))
        own.close()
        return True

    assert _fork(publish_in_child)
    transport.consume([queue.name], 1)
    assert bodies(take(transport, 1)) == ["from the child"]


# -- other processes -----------------------------------------------------------------------------------


def hold(transport: Transport, queue: str, count: int) -> None:
    """In another process: take messages and hold them until killed."""
    transport.consume([queue], count)
    take(transport, count)
    print("holding", flush=True)
    sys.stdin.read()


def test_a_killed_process_gives_back(backend: Backend, queue: QueueSpec) -> None:
    transport = backend.open_mortal()
    publish(transport, *(text(f"{number}", queue.name) for number in range(3)))
    with backend.spawn(hold, queue.name, 3) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holding\n"
        assert transport.queue_state(queue.name).ready == 0
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        transport.consume([queue.name], 10)
        held = take(transport, 3)
    assert sorted(bodies(held)) == ["0", "1", "2"]
    assert all(delivery.redelivered for delivery in held)
    transport.ack(held)


def test_messages_survive_their_publisher(backend: Backend, queue: QueueSpec) -> None:
    backend.needs("survives_restart")
    publisher = backend.open()
    publish(publisher, text("x", queue.name))
    publisher.abandon()
    other = backend.open()
    wait_ready(other, queue.name, 1)
    delivery = other.get(queue.name)
    assert delivery is not None
    assert delivery.body == b"x"
    other.ack([delivery])
