"""What the tests of the SQLite transport share."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.codec import Message
from engine.transport import TransportOptions
from engine.transport.sqlite import SqliteTransport


@contextmanager
def opened(path: Path, **options: object) -> Iterator[SqliteTransport]:
    """A connected transport on that file."""
    transport = SqliteTransport(f"sqlite:///{path}", TransportOptions(**options))  # type: ignore[arg-type]
    transport.connect()
    try:
        yield transport
    finally:
        transport.close()


def publish(transport: SqliteTransport, queue: str, *bodies: bytes) -> None:
    outcomes = transport.publish([Message(body, routing_key=queue) for body in bodies])
    assert outcomes == [None] * len(bodies)


def in_child(work: Callable[[], None]) -> int:
    """Fork; the child runs `work` and exits 0, or 1 when it raises. The child's pid."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        work()
        status = 0
    finally:
        os._exit(status)


def wait_until(condition: Callable[[], bool], what: str, deadline_s: float = 15) -> None:
    deadline_mono_s = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline_mono_s, f"not within {deadline_s} s: {what}"
        time.sleep(0.002)
