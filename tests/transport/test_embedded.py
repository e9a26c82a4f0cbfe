"""What the brokers in this process read out of a message."""

from __future__ import annotations

import pytest

from engine.codec import Message
from engine.transport.embedded import (
    clamp_priority,
    dead_letter_address,
    dead_letter_headers,
    due_ms_of,
    expires_ms_of,
    properties_of,
    too_large,
    unroutable,
)


def test_only_properties_that_are_set() -> None:
    assert properties_of(Message(b"")) == {"delivery_mode": 2}
    message = Message(b"", priority=0, expiration_ms=5, timestamp=1, correlation_id="c")
    assert properties_of(message) == {
        "delivery_mode": 2,
        "priority": 0,
        "expiration": "5",
        "timestamp": 1,
        "correlation_id": "c",
    }


@pytest.mark.parametrize(("given", "expected"), [(None, 0), (-1, 0), (0, 0), (5, 5), (9, 9), (255, 9)])
def test_priorities_are_clamped(given: int | None, expected: int) -> None:
    assert clamp_priority(given) == expected


def test_due_is_never_early() -> None:
    assert due_ms_of(None, 1000) is None
    assert due_ms_of(1.0, 1000) is None
    assert due_ms_of(1.0001, 1000) == 1001
    assert due_ms_of(2.0, 1000) == 2000


def test_the_shorter_time_to_live_counts() -> None:
    assert expires_ms_of(None, {}, 1000) is None
    assert expires_ms_of(50, {}, 1000) == 1050
    assert expires_ms_of(50, {"x-message-ttl": 20}, 1000) == 1020
    assert expires_ms_of(None, {"x-message-ttl": 20}, 1000) == 1020
    assert expires_ms_of(0, {}, 1000) == 1000


def test_dead_letters_are_addressed() -> None:
    assert dead_letter_address({}, "key") is None
    assert dead_letter_address({"x-dead-letter-exchange": "dlx"}, "key") == ("dlx", "key")
    whole = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    assert dead_letter_address(whole, "key") == ("", "dead")


def test_the_first_death_is_kept() -> None:
    first = dead_letter_headers({"own": 1}, "q1", "", "expired")
    assert first["own"] == 1
    assert first["x-first-death-reason"] == "expired"
    assert dead_letter_headers(first, "q2", "dlx", "rejected") == first


def test_too_large() -> None:
    assert too_large(Message(b"1234"), 4) is None
    assert "5 bytes and the limit is 4" in str(too_large(Message(b"12345"), 4))


def test_unroutable_says_what_to_do() -> None:
    assert "start a worker" in str(unroutable(Message(b"", routing_key="q")))
    assert "'x'" in str(unroutable(Message(b"", exchange="x", routing_key="k")))
