"""Control messages: whole, in order, with descriptors, and an end of file that is noticed."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from engine.worker.control import MAX_MESSAGE_BYTES, Channel


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    left, right = Channel.pair()
    yield left, right
    left.close()
    right.close()


def test_messages_come_whole_and_in_order(ends: tuple[Channel, Channel]) -> None:
    left, right = ends
    for number in range(50):
        assert left.send({"op": "n", "number": number, "text": "x" * number})
    assert [message["number"] for message in right.receive()] == list(range(50))
    assert right.receive() == []
    assert not right.eof


def test_both_directions(ends: tuple[Channel, Channel]) -> None:
    left, right = ends
    left.send({"op": "ping"})
    right.send({"op": "pong"})
    assert (right.receive(), left.receive()) == ([{"op": "ping"}], [{"op": "pong"}])


def test_what_a_slow_peer_has_not_taken_is_kept(ends: tuple[Channel, Channel]) -> None:
    left, right = ends
    sent = 0
    while not left._backlog:
        assert left.send({"op": "n", "number": sent, "text": "x" * 4000})
        sent += 1
        assert sent < 10_000
    for _ in range(20):
        left.send({"op": "n", "number": sent, "text": ""})
        sent += 1
    got: list[int] = []
    while len(got) < sent:
        got += [message["number"] for message in right.receive()]
        assert left.flush()
    assert got == list(range(sent))


def test_end_of_file_after_the_last_message(ends: tuple[Channel, Channel]) -> None:
    left, right = ends
    left.send({"op": "bye"})
    left.close()
    assert right.receive() == [{"op": "bye"}]
    assert right.eof
    assert not right.send({"op": "hello?"})


def test_last_words_are_read_even_when_sending_failed_first(ends: tuple[Channel, Channel]) -> None:
    left, right = ends
    left.send({"op": "failed", "text": "why"})
    left.close()
    assert not right.send({"op": "quit"})
    assert right.eof
    assert right.receive() == [{"op": "failed", "text": "why"}]
    assert right.receive() == []


def test_last_words_of_a_peer_that_did_not_listen_are_read(ends: tuple[Channel, Channel]) -> None:
    left, right = ends
    right.send({"op": "quit"})
    left.send({"op": "failed", "text": "why"})
    left.close()
    assert right.receive() == [{"op": "failed", "text": "why"}]
    assert right.eof


def test_wait_returns_none_at_end_of_file(ends: tuple[Channel, Channel]) -> None:
    left, right = ends
    left.send({"op": "one"})
    left.close()
    assert right.wait() == ({"op": "one"}, [])
    assert right.wait() is None


def test_descriptors_travel(ends: tuple[Channel, Channel]) -> None:
    left, right = ends
    read_fd, write_fd = os.pipe()
    try:
        assert left.send({"op": "take"}, [write_fd])
        answer = right.wait()
        assert answer is not None
        message, fds = answer
        assert message == {"op": "take"}
        assert len(fds) == 1
        assert not os.get_inheritable(fds[0])
        os.write(fds[0], b"hello")
        os.close(fds[0])
        assert os.read(read_fd, 10) == b"hello"
    finally:
        os.close(read_fd)
        os.close(write_fd)


def test_a_message_that_is_too_large_is_our_mistake(ends: tuple[Channel, Channel]) -> None:
    with pytest.raises(ValueError, match="65536 are allowed"):
        ends[0].send({"op": "x", "text": "y" * MAX_MESSAGE_BYTES})


def test_using_a_closed_channel_is_no_error(ends: tuple[Channel, Channel]) -> None:
    left, _right = ends
    left.close()
    assert left.receive() == []
    assert not left.send({"op": "x"})
    left.close()
