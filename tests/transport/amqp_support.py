"""What the AMQP tests share: transports that are closed after the test, and peers that are no brokers."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from engine.codec import Delivery, Message
from engine.transport import TransportOptions
from engine.transport.amqp import AmqpTransport

DEADLINE_S = 15.0


@contextmanager
def opened(url: str, **options: Any) -> Iterator[AmqpTransport]:
    """A connected transport, closed at the end."""
    transport = AmqpTransport(url, TransportOptions(**options))
    try:
        transport.connect()
        yield transport
    finally:
        transport.close()


@contextmanager
def peer(answer: Callable[[socket.socket], None], context: ssl.SSLContext | None = None) -> Iterator[int]:
    """A listening port whose every connection is given to ``answer``; the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        stopping = threading.Event()

        def serve() -> None:
            while not stopping.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                connection.settimeout(DEADLINE_S)
                with connection:
                    try:
                        if context is None:
                            answer(connection)
                            continue
                        with context.wrap_socket(connection, server_side=True) as wrapped:
                            answer(wrapped)
                    except OSError:  # the client has gone, as it should
                        continue

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            stopping.set()
            thread.join()


def text(body: str, queue: str, **fields: Any) -> Message:
    return Message(body.encode(), routing_key=queue, **fields)


def take(transport: AmqpTransport, count: int, deadline_s: float = DEADLINE_S) -> list[Delivery]:
    """Receive until ``count`` deliveries are there."""
    deadline_mono_s = time.monotonic() + deadline_s
    taken: list[Delivery] = []
    while len(taken) < count:
        assert time.monotonic() < deadline_mono_s, f"{len(taken)} of {count} deliveries within {deadline_s} s"
        taken += transport.receive(0.2)
    return taken


def wait_until(condition: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
    deadline_mono_s = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline_mono_s, f"not within {deadline_s} s: {what}"
        time.sleep(0.01)


def connections(rabbitmq: Any, name: str) -> list[str]:
    """The broker's pids of the connections with that name."""
    lines = rabbitmq.ctl("list_connections", "pid", "client_properties").splitlines()
    return [line.split("\t")[0] for line in lines if f'"{name}"' in line]


def drop_connections(rabbitmq: Any, name: str) -> None:
    """Let the broker close all connections with that name."""
    wait_until(lambda: bool(connections(rabbitmq, name)), f"the broker to know {name}")
    for pid in connections(rabbitmq, name):
        rabbitmq.ctl("close_connection", pid, "dropped by a test")
