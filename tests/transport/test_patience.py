"""Sockets whose reads wait: for so long, until a signal, and nothing else of them waits."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

from engine.transport.patience import PATIENCE_S, ReceiveError, be_patient, receive


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@contextmanager
def _alarms(handler: signal._HANDLER, every_s: float) -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, every_s, every_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_read_waits_for_bytes(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    be_patient(ours)
    buffer = bytearray(8)
    sender = threading.Timer(0.1, theirs.sendall, (b"late",))
    sender.start()
    assert receive(ours.fileno(), buffer) == 4
    assert buffer[:4] == b"late"
    sender.join()


def test_a_read_gives_up(ends: tuple[socket.socket, socket.socket]) -> None:
    be_patient(ends[0])
    began = time.monotonic()
    assert receive(ends[0].fileno(), bytearray(8)) == -1
    assert time.monotonic() - began >= 0.9 * PATIENCE_S


def test_nothing_else_waits(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, _ = ends
    flags = be_patient(ours)
    with pytest.raises(BlockingIOError):
        ours.recv(8, flags)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    assert ours.send(bytes(1 << 22), flags) < 1 << 22
    with pytest.raises(BlockingIOError):
        ours.send(bytes(1 << 22), flags)


def test_each_signal_ends_the_wait(ends: tuple[socket.socket, socket.socket]) -> None:
    """So whoever has a deadline keeps it, however many come."""
    be_patient(ends[0])
    seen: list[int] = []
    with _alarms(lambda number, _frame: seen.append(number), 0.05):
        began = time.monotonic()
        assert receive(ends[0].fileno(), bytearray(8)) == -1
    assert seen
    assert time.monotonic() - began < PATIENCE_S


def test_what_a_signals_handler_raises_comes_through(ends: tuple[socket.socket, socket.socket]) -> None:
    class StopError(Exception):
        pass

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise StopError

    be_patient(ends[0])
    with pytest.raises(StopError), _alarms(stop, 0.05):
        receive(ends[0].fileno(), bytearray(8))


def test_the_end_and_errors(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    be_patient(ours)
    theirs.close()
    assert receive(ours.fileno(), bytearray(8)) == 0
    number = ours.fileno()
    ours.close()
    with pytest.raises(ReceiveError, match="Bad file descriptor"):
        receive(number, bytearray(8))
    with pytest.raises(BufferError):
        receive(number, b"not writable")  # type: ignore[arg-type]


class Cooperative(socket.socket):
    """As gevent's: its descriptor never blocks, and its own reads wait only as long as it is told to."""

    def setblocking(self, flag: bool, /) -> None:
        super().setblocking(False)
        self.waits = flag

    def recv_into(self, buffer: bytearray, nbytes: int = 0, flags: int = 0, /) -> int:  # type: ignore[override]
        if self.waits:
            raise AssertionError("it would let others run until something comes, whatever the flags are")
        return super().recv_into(buffer, nbytes, flags)


def test_a_socket_of_gevents_never_waits(ends: tuple[socket.socket, socket.socket]) -> None:
    ours = Cooperative(fileno=ends[0].detach())
    with ours:
        assert be_patient(ours) == 0
        with pytest.raises(BlockingIOError):
            ours.recv_into(bytearray(8), 0, 0)
