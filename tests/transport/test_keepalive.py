"""The native keeper on a socket pair: what it sends, when, and what it leaves when the socket is full."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from engine._keepalive import Keeper

RECORD = b"record;"


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, peer = socket.socketpair()
    peer.settimeout(10)
    yield ours, peer
    ours.close()
    peer.close()


@pytest.fixture
def keeper(pair: tuple[socket.socket, socket.socket]) -> Iterator[Keeper]:
    keeper = Keeper(pair[0].fileno(), 0.05)
    keeper.start()
    yield keeper
    keeper.stop()


def _until(condition: Callable[[], bool], deadline_s: float = 10.0) -> None:
    deadline_mono_s = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline_mono_s
        time.sleep(0.005)


def _hold_the_gil(seconds: float) -> None:
    """A C call that keeps the GIL, as a badly written extension would."""
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))


def test_disarmed_it_is_silent(pair: tuple[socket.socket, socket.socket], keeper: Keeper) -> None:
    keeper.arm(repeat=RECORD)
    assert pair[1].recv(100).startswith(RECORD)
    keeper.disarm()
    pair[1].setblocking(False)
    while True:  # what was sent before
        try:
            pair[1].recv(1000)
        except BlockingIOError:
            break
    sent = keeper.sent
    _hold_the_gil(0.3)
    assert keeper.sent == sent
    with pytest.raises(BlockingIOError):
        pair[1].recv(1)


def test_it_sends_while_the_gil_is_held(pair: tuple[socket.socket, socket.socket], keeper: Keeper) -> None:
    keeper.arm(repeat=RECORD)
    _hold_the_gil(0.5)
    sent, rest = keeper.disarm()
    assert 3 <= sent <= 11
    assert rest == b""
    assert pair[1].recv(1000) == RECORD * sent


def test_not_before_the_interval_has_passed(pair: tuple[socket.socket, socket.socket]) -> None:
    keeper = Keeper(pair[0].fileno(), 0.4)
    keeper.start()
    keeper.touch()
    started_mono_s = time.monotonic()
    keeper.arm(repeat=RECORD)
    pair[1].recv(100)
    assert 0.35 < time.monotonic() - started_mono_s < 5
    keeper.stop()


def test_traffic_postpones_it(pair: tuple[socket.socket, socket.socket]) -> None:
    keeper = Keeper(pair[0].fileno(), 1.0)
    keeper.start()
    keeper.arm(repeat=RECORD)
    for _ in range(15):
        _hold_the_gil(0.1)
        keeper.touch()
    assert keeper.sent == 0
    keeper.stop()


def test_records_go_once_each_in_order(pair: tuple[socket.socket, socket.socket], keeper: Keeper) -> None:
    keeper.arm(records=[b"one;", b"two;", b"three;"], repeat=b"again;")
    _until(lambda: keeper.sent >= 5)
    keeper.disarm()
    assert pair[1].recv(1000).startswith(b"one;two;three;again;again;")


def test_records_without_repeat_run_out(pair: tuple[socket.socket, socket.socket], keeper: Keeper) -> None:
    keeper.arm(records=[b"one;", b"two;"])
    _until(lambda: keeper.sent == 2)
    _hold_the_gil(0.2)
    assert keeper.disarm() == (2, b"")
    assert keeper.error == 0


def test_armed_again_it_goes_on_where_it_was(
    pair: tuple[socket.socket, socket.socket], keeper: Keeper
) -> None:
    keeper.arm(records=[b"%d;" % number for number in range(50)])
    _until(lambda: keeper.sent >= 2)
    first, _ = keeper.disarm()
    keeper.arm()
    _until(lambda: keeper.sent >= first + 2)
    second, _ = keeper.disarm()
    assert keeper.sent == first + second
    assert pair[1].recv(1000) == b"".join(b"%d;" % number for number in range(first + second))


def test_a_full_socket_tears_no_record(pair: tuple[socket.socket, socket.socket]) -> None:
    """What did not fit is told by disarm, and together it is the whole record."""
    ours, peer = pair
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    record = bytes(range(256)) * 4096
    keeper = Keeper(ours.fileno(), 0.05)
    keeper.start()
    keeper.arm(records=[record])
    came = peer.recv(1)  # it has begun
    sent, rest = keeper.disarm()
    assert sent == 1
    assert rest
    while len(came) + len(rest) < len(record):
        came += peer.recv(1 << 20)
    assert came + rest == record
    keeper.stop()


def test_a_torn_record_is_finished_when_there_is_room(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, peer = pair
    record = b"x" * (4 << 20)
    keeper = Keeper(ours.fileno(), 0.05)
    keeper.start()
    keeper.arm(records=[record])
    came = b""
    while len(came) < len(record):
        came += peer.recv(1 << 20)
    _until(lambda: keeper.sent == 1)
    assert keeper.disarm() == (1, b"")
    assert came == record
    keeper.stop()


def test_a_gone_peer_is_an_error_and_no_signal(
    pair: tuple[socket.socket, socket.socket], keeper: Keeper
) -> None:
    pair[1].close()
    keeper.arm(repeat=RECORD)
    _until(lambda: keeper.error != 0)
    assert os.strerror(keeper.error) == "Broken pipe"
    assert keeper.sent == 0


def test_stopping_twice_is_once(keeper: Keeper) -> None:
    keeper.arm(repeat=RECORD)
    keeper.stop()
    keeper.stop()
    assert keeper.disarm()[1] == b""


def test_starting_twice_is_refused(keeper: Keeper) -> None:
    with pytest.raises(RuntimeError, match="already"):
        keeper.start()


@pytest.mark.parametrize("interval_s", [0, -1, float("nan")])
def test_an_interval_must_be_positive(interval_s: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        Keeper(0, interval_s)


def test_signals_stay_with_the_main_thread(keeper: Keeper) -> None:
    blocked = []
    for task in os.listdir("/proc/self/task"):
        if int(task) != os.getpid():
            with open(f"/proc/self/task/{task}/status") as status:
                blocked += [line for line in status if line.startswith("SigBlk")]
    wanted = 1 << (signal.SIGTERM - 1)
    assert any(int(line.split()[1], 16) & wanted for line in blocked)


def test_a_forked_child_can_stop_what_is_not_there(keeper: Keeper) -> None:
    keeper.arm(repeat=RECORD)
    pid = os.fork()
    if pid == 0:
        keeper.stop()
        del keeper
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    _until(lambda: keeper.sent > 0)


def test_arming_is_cheap(keeper: Keeper) -> None:
    """Well under a microsecond each, as it is done around every task; the bound is for a busy, traced
    machine."""
    keeper.arm(repeat=RECORD)
    keeper.disarm()
    best = min(_pairs_us(keeper) for _ in range(5))
    assert best < 20.0


def _pairs_us(keeper: Keeper) -> float:
    started_s = time.process_time()
    for _ in range(2000):
        keeper.arm()
        keeper.disarm()
    return (time.process_time() - started_s) / 2000 * 1e6
