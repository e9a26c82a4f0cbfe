"""The connection lives while user code holds the GIL, and a dead peer is found out."""

from __future__ import annotations

import ctypes
import signal
import socket
import time
from types import FrameType

import pytest

from engine.codec import HEARTBEAT_FRAME, Delivery
from engine.errors import ConnectionLost
from engine.model import QueueSpec
from engine.transport.amqp import AmqpTransport
from tests.transport.amqp_support import opened, peer, take, text, wait_until
from tools.brokers import RabbitMQ

pytestmark = pytest.mark.amqp

#: RabbitMQ gives up after two to three heartbeats of silence.
HEARTBEAT_S = 2
TASK_S = 7.5


def _hold_the_gil(seconds: float) -> None:
    """A C call that keeps the GIL, as a badly written extension would."""
    sleep = ctypes.PyDLL(None).usleep
    until_mono_s = time.monotonic() + seconds
    while time.monotonic() < until_mono_s:
        sleep(1_500_000)


def _url(rabbitmq: RabbitMQ, kind: str) -> str:
    url = rabbitmq.url if kind == "plain" else f"{rabbitmq.amqps_url}?cacertfile={rabbitmq.cafile}"
    return f"{url}{'&' if '?' in url else '?'}heartbeat={HEARTBEAT_S}"


def _with_one_held(transport: AmqpTransport, queue: str) -> None:
    transport.declare(QueueSpec(queue))
    assert transport.publish([text("a", queue), text("b", queue)]) == [None, None]
    transport.consume([queue], 1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "tls"])
def test_a_long_call_that_holds_the_gil(rabbitmq: RabbitMQ, unique: str, kind: str) -> None:
    """Both connections live, the acknowledgement counts, and the next task finds everything in order."""
    with opened(_url(rabbitmq, kind)) as transport:
        _with_one_held(transport, unique)
        [first] = take(transport, 1)
        consuming, publishing = transport._connections()
        transport.guard()
        _hold_the_gil(TASK_S)
        transport.unguard()
        transport.ack([first])
        [second] = take(transport, 1)
        assert (second.body, second.redelivered) == (b"b", False)
        for _ in range(3):  # short tasks: armed, nothing sent, disarmed
            transport.guard()
            transport.unguard()
        transport.ack([second])
        assert transport.publish([text("c", unique)]) == [None]
        assert transport._connections() == [consuming, publishing]
        [third] = take(transport, 1)
        assert third.body == b"c"
        transport.ack([third])
        wait_until(lambda: transport.queue_state(unique).ready == 0, "the queue to be empty")
        transport.delete_queue(unique)


def _ack_and_look(transport: AmqpTransport, delivery: Delivery) -> None:
    transport.ack([delivery])
    for _ in range(5):
        transport.receive(1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "tls"])
def test_without_the_keeper_it_is_lost(rabbitmq: RabbitMQ, unique: str, kind: str) -> None:
    """The proof that the test above tests something."""
    with opened(_url(rabbitmq, kind)) as transport:
        _with_one_held(transport, unique)
        [first] = take(transport, 1)
        _hold_the_gil(TASK_S)
        with pytest.raises(ConnectionLost):
            _ack_and_look(transport, first)
        transport.reconnect()
        [again] = take(transport, 1)
        assert (again.body, again.redelivered) == (b"a", True)
        transport.delete_queue(unique)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "tls"])
def test_publishing_from_user_code_stays_guarded(rabbitmq: RabbitMQ, unique: str, kind: str) -> None:
    with opened(_url(rabbitmq, kind)) as transport:
        _with_one_held(transport, unique)
        [first] = take(transport, 1)
        transport.guard()
        assert transport.publish([text("from the task", unique)]) == [None]
        before = transport._connections()
        _hold_the_gil(TASK_S)
        transport.unguard()
        transport.ack([first])
        assert transport.publish([text("c", unique)]) == [None]
        assert transport._connections() == before
        assert take(transport, 1)[0].redelivered is False
        transport.delete_queue(unique)


@pytest.mark.slow
def test_waiting_for_messages_keeps_both_connections(rabbitmq: RabbitMQ, unique: str) -> None:
    with opened(_url(rabbitmq, "plain")) as transport:
        _with_one_held(transport, unique)
        held = take(transport, 1)
        before = transport._connections()
        assert transport.receive(TASK_S) == []
        assert transport.publish([text("c", unique)]) == [None]
        assert transport._connections() == before
        assert len(before) == 2
        transport.ack(held)
        assert take(transport, 1)[0].body == b"b"
        transport.delete_queue(unique)


def _start_and_tune(connection: socket.socket) -> None:
    """As much of a broker as lets a client open its connection."""
    table = b"\x00\x00\x00\x00"
    connection.recv(8)
    start = b"\x00\x0a\x00\x0a\x00\x09" + table + b"\x00\x00\x00\x05PLAIN" + b"\x00\x00\x00\x05en_US"
    connection.sendall(_method(start))
    connection.recv(4096)
    connection.sendall(_method(b"\x00\x0a\x00\x1e" + b"\x07\xff" + b"\x00\x02\x00\x00" + b"\x00\x01"))
    connection.recv(4096)
    connection.sendall(_method(b"\x00\x0a\x00\x29\x00"))


def _start_tune_and_silence(connection: socket.socket) -> None:
    """Then it is deaf and dumb."""
    _start_and_tune(connection)
    beats = b""
    while chunk := connection.recv(4096):
        beats += chunk
    assert HEARTBEAT_FRAME in beats


def _start_tune_and_wait(connection: socket.socket) -> None:
    """Until the client goes."""
    _start_and_tune(connection)
    while connection.recv(4096):
        pass


def _method(payload: bytes) -> bytes:
    return b"\x01\x00\x00" + len(payload).to_bytes(4, "big") + payload + b"\xce"


def test_a_silent_peer_is_a_lost_connection() -> None:
    """Two heartbeats without a byte, then it is over. Nothing else here would ever notice."""
    with (
        peer(_start_tune_and_silence) as port,
        opened(f"amqp://127.0.0.1:{port}?heartbeat=1") as transport,
    ):
        connection = transport._spare
        assert connection is not None
        started_mono_s = time.monotonic()
        with pytest.raises(ConnectionLost, match="was silent for"):
            connection.run_until(lambda: False, started_mono_s + 10)
        assert 1.9 < time.monotonic() - started_mono_s < 6
        assert not transport.connected


def test_a_deadline_of_the_callers_own_is_no_lost_connection() -> None:
    """TimeoutError is an OSError, as what the system says of a socket."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError("my own")

    before = signal.signal(signal.SIGALRM, stop)
    try:
        with (
            peer(_start_tune_and_wait) as port,
            opened(f"amqp://127.0.0.1:{port}?heartbeat=0") as transport,
        ):
            connection = transport._spare
            assert connection is not None
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(TimeoutError, match="my own"):
                connection.run_until(lambda: False, time.monotonic() + 10)
            transport.abandon()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.slow
def test_a_late_look_is_no_dead_peer(rabbitmq: RabbitMQ, unique: str) -> None:
    """After a long task the broker's heartbeats wait in the socket: they count, not the time that passed."""
    with opened(_url(rabbitmq, "plain")) as transport:
        _with_one_held(transport, unique)
        take(transport, 1)
        transport.guard()
        _hold_the_gil(3 * HEARTBEAT_S)
        transport.unguard()
        assert transport.receive(0.1) == []
        assert transport.connected
        transport.delete_queue(unique)
