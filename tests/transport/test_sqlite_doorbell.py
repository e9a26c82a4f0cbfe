"""Waking idle consumers: quickly, about one a message, and never by asking again and again."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from engine.model import QueueSpec
from engine.transport.sqlite_doorbell import Doorbell, bell_path, open_bell
from tests.transport.sqlite_support import in_child, opened, publish, wait_until


def test_rung_before_waiting_is_heard(tmp_path: Path) -> None:
    path = tmp_path / "engine.db"
    listening, ringing = Doorbell(path), Doorbell(path)
    listening.listen(["q"])
    ringing.ring("q", 3)
    started_mono_s = time.monotonic()
    assert listening.wait(10, ()) == (True, False)
    assert time.monotonic() - started_mono_s < 5
    started_mono_s = time.monotonic()
    listening.wait(0.05, ())
    assert time.monotonic() - started_mono_s >= 0.04, "the bytes were taken out"
    listening.close()
    ringing.close()


def test_other_bells_are_not_heard(tmp_path: Path) -> None:
    bell = Doorbell(tmp_path / "engine.db")
    bell.listen(["q"])
    bell.ring("other")
    started_mono_s = time.monotonic()
    bell.wait(0.05, ())
    assert time.monotonic() - started_mono_s >= 0.04
    bell.close()


def test_any_name_has_a_bell(tmp_path: Path) -> None:
    names = ["../../etc", "a/b", "größer\udc80", "x" * 5000, ""]
    paths = {bell_path(tmp_path / "engine.db", name) for name in names}
    assert len(paths) == len(names)
    for path in paths:
        assert path.parent == tmp_path / "engine.db-bell"
        os.close(open_bell(path))


def test_a_full_bell_does_not_stop_the_publisher(tmp_path: Path) -> None:
    bell = Doorbell(tmp_path / "engine.db")
    for _ in range(20_000):
        bell.ring("q", 8)
    bell.listen(["q"])
    bell.wait(0, ())
    started_mono_s = time.monotonic()
    bell.wait(0.05, ())
    assert time.monotonic() - started_mono_s >= 0.04
    bell.close()


def test_few_descriptors_for_many_queues(tmp_path: Path) -> None:
    bell = Doorbell(tmp_path / "engine.db")
    before = len(os.listdir("/proc/self/fd"))
    for number in range(300):
        bell.ring(f"q{number}")
    assert len(os.listdir("/proc/self/fd")) - before <= 64
    bell.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_wake_fd_that_changes(tmp_path: Path) -> None:
    bell = Doorbell(tmp_path / "engine.db")
    bell.listen(["q"])
    first, second = os.pipe(), os.pipe()
    os.write(first[1], b"!")
    os.write(second[1], b"!")
    assert bell.wait(1, (first[0],)) == (False, True)
    os.close(first[0])
    assert bell.wait(1, (second[0],)) == (False, True)
    os.read(second[0], 1)
    assert bell.wait(0.01, (second[0],)) == (False, False)
    assert bell.wait_deaf(0.01, (second[0],)) is False
    bell.close()
    for fd in (first[1], *second):
        os.close(fd)


def test_without_fifos_it_looks_more_often(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "engine.db"
    (tmp_path / "engine.db-bell").write_text("a file where the folder should be")
    with opened(path) as transport:
        transport.declare(QueueSpec("q"))
        transport.consume(["q"], 1)
        assert "doorbell" in caplog.text
        with opened(path) as other:
            timer = threading.Timer(0.2, publish, (other, "q", b"x"))
            timer.start()
            assert [delivery.body for delivery in transport.receive(10)] == [b"x"]
            timer.join()


@pytest.mark.alone
def test_a_sleeping_consumer_is_woken_quickly(tmp_path: Path) -> None:
    """The median of several; one alone may meet a busy machine."""
    path = tmp_path / "engine.db"
    delays_s: list[float] = []
    with opened(path) as transport, opened(path) as other:
        transport.declare(QueueSpec("q"))
        transport.consume(["q"], 1)
        for _ in range(15):
            published: list[float] = []

            def publish_later(when: list[float] = published) -> None:
                publish(other, "q", b"x")
                when.append(time.monotonic())

            timer = threading.Timer(0.02, publish_later)
            timer.start()
            [delivery] = transport.receive(10)
            received_mono_s = time.monotonic()
            timer.join()
            delays_s.append(received_mono_s - published[0])
            transport.ack([delivery])
    assert sorted(delays_s)[7] < 0.02, delays_s


@pytest.mark.alone
def test_one_message_wakes_about_one_of_many(tmp_path: Path) -> None:
    """Each child counts how often its wait ended."""
    path = tmp_path / "engine.db"
    with opened(path) as transport:
        transport.declare(QueueSpec("q"))
        reading, writing = os.pipe()

        def consume() -> None:
            with opened(path) as own:
                own.consume(["q"], 1)
                wakes = 0
                wait = own._bell.wait

                def counting(timeout_s: float, wake_fds: tuple[int, ...]) -> tuple[bool, bool]:
                    nonlocal wakes
                    started_mono_s = time.monotonic()
                    woken = wait(timeout_s, wake_fds)
                    wakes += time.monotonic() - started_mono_s < timeout_s * 0.9
                    return woken

                own._bell.wait = counting  # type: ignore[method-assign]
                os.write(writing, b"r")
                while True:
                    taken = own.receive(30)
                    own.ack(taken)
                    if any(delivery.body == b"stop" for delivery in taken):
                        os.write(writing, b"%4d" % wakes)
                        return

        pids = [in_child(consume) for _ in range(6)]
        for _ in pids:
            assert os.read(reading, 1) == b"r"
        for number in range(50):
            publish(transport, "q", b"%d" % number)
            wait_until(lambda: transport.queue_state("q").ready == 0, "the message to be taken")
        for _ in pids:
            publish(transport, "q", b"stop")
        assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 6
        wakes = sum(int(os.read(reading, 4)) for _ in pids)
        os.close(reading)
        os.close(writing)
    assert 50 <= wakes <= 150, "six woken by each of 56 messages would be 336"


def test_an_idle_consumer_uses_next_to_no_cpu(tmp_path: Path) -> None:
    with opened(tmp_path / "engine.db") as transport:
        transport.declare(QueueSpec("q"))
        transport.consume(["q"], 1)
        transport.receive(0)
        before_s = time.thread_time()
        assert transport.receive(2.5) == []
        assert time.thread_time() - before_s < 0.025, "1 % of a core"


def test_a_consumer_that_may_take_no_more_leaves_the_bell_to_others(tmp_path: Path) -> None:
    with opened(tmp_path / "engine.db") as transport:
        transport.declare(QueueSpec("q"))
        publish(transport, "q", b"a", b"b")
        transport.consume(["q"], 1)
        assert len(transport.receive(1)) == 1
        before_s = time.thread_time()
        assert transport.receive(0.5) == [], "and it sleeps meanwhile, although the bell is full"
        assert time.thread_time() - before_s < 0.1


@pytest.mark.alone
def test_a_burst_wakes_everybody(tmp_path: Path) -> None:
    """Each of six consumers may hold one message, and holds it until all six do."""
    path = tmp_path / "engine.db"
    with opened(path) as transport:
        transport.declare(QueueSpec("q"))
        reading, writing = os.pipe()
        go_reading, go_writing = os.pipe()

        def hold_one() -> None:
            with opened(path) as own:
                own.consume(["q"], 1)
                os.write(writing, b"r")
                taken = own.receive(20)
                os.write(writing, b"%d" % len(taken))
                os.read(go_reading, 1)
                own.ack(taken)

        pids = [in_child(hold_one) for _ in range(6)]
        for _ in pids:
            assert os.read(reading, 1) == b"r"
        started_mono_s = time.monotonic()
        publish(transport, "q", *(b"x" for _ in range(6)))
        for _ in pids:
            assert os.read(reading, 1) == b"1"
        assert time.monotonic() - started_mono_s < 1.0, "by bells, not by the safety poll"
        os.write(go_writing, b"!" * 6)
        assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 6
        for fd in (reading, writing, go_reading, go_writing):
            os.close(fd)
