"""Which message a confirm, a refusal or a return is about."""

from __future__ import annotations

import time

from engine.codec import Message, Returned
from engine.errors import PublishRefused, Unroutable
from engine.transport.amqp_confirms import PENDING, Batch, Confirms


def _batch(*bodies: str, key: str = "q") -> Batch:
    return Batch([Message(body.encode(), routing_key=key) for body in bodies])


def _sent(confirms: Confirms, *bodies: str) -> Batch:
    batch = _batch(*bodies)
    confirms.sent(batch, 0, len(bodies))
    return batch


def _returned(message: Message) -> Returned:
    return Returned(1, 312, "NO_ROUTE", message.exchange, message.routing_key, message)


def test_one_by_one() -> None:
    confirms = Confirms()
    batch = _sent(confirms, "a", "b", "c")
    confirms.acked(2, False)
    assert batch.outcomes == [PENDING, None, PENDING]
    assert (batch.pending, len(confirms)) == (2, 2)
    confirms.acked(1, False)
    confirms.acked(3, False)
    assert batch.outcomes == [None, None, None]
    assert (batch.pending, len(confirms)) == (0, 0)


def test_multiple_covers_all_before() -> None:
    confirms = Confirms()
    first, second = _sent(confirms, "a", "b"), _sent(confirms, "c", "d")
    confirms.acked(3, True)
    assert first.outcomes == [None, None]
    assert second.outcomes == [None, PENDING]


def test_multiple_with_tag_zero_is_all() -> None:
    confirms = Confirms()
    batch = _sent(confirms, "a", "b")
    confirms.acked(0, True)
    assert batch.pending == 0


def test_refused() -> None:
    confirms = Confirms()
    batch = _sent(confirms, "a", "b", "c")
    confirms.acked(1, False)
    confirms.nacked(3, True)
    assert batch.outcomes[0] is None
    assert isinstance(batch.outcomes[1], PublishRefused)
    assert isinstance(batch.outcomes[2], PublishRefused)


def test_a_confirm_of_nothing_is_harmless() -> None:
    confirms = Confirms()
    batch = _sent(confirms, "a")
    confirms.acked(7, False)
    confirms.acked(1, False)
    confirms.acked(1, True)
    confirms.nacked(1, False)
    assert batch.outcomes == [None]


def test_a_returned_message_stays_unroutable() -> None:
    confirms = Confirms()
    batch = _sent(confirms, "a", "b", "c")
    confirms.returned(_returned(batch.messages[1]))
    confirms.acked(3, True)
    assert batch.outcomes[0] is None
    assert isinstance(batch.outcomes[1], Unroutable)
    assert batch.outcomes[2] is None


def test_equal_messages_are_returned_in_order() -> None:
    confirms = Confirms()
    batch = _sent(confirms, "same", "same", "same")
    confirms.returned(_returned(batch.messages[0]))
    confirms.returned(_returned(batch.messages[0]))
    confirms.acked(3, True)
    assert [type(outcome) for outcome in batch.outcomes] == [Unroutable, Unroutable, type(None)]


def test_the_rest_of_a_batch_can_be_given_up() -> None:
    confirms = Confirms()
    batch = _sent(confirms, "a", "b")
    confirms.acked(1, False)
    batch.settle_rest(lambda message: PublishRefused(message.body.decode()))
    assert batch.outcomes[0] is None
    assert str(batch.outcomes[1]) == "b"
    confirms.acked(2, False)
    assert str(batch.outcomes[1]) == "b"


def test_those_confirmed_alone_count_too() -> None:
    confirms = Confirms()
    for _ in range(1_000_000):
        confirms.passed()
    assert confirms.idle
    assert confirms.next_tag == 1_000_001
    batch = _sent(confirms, "a", "b")
    started_s = time.process_time()
    confirms.acked(1_000_002, True)
    assert time.process_time() - started_s < 0.02  # what is long settled is not gone through again
    assert batch.outcomes == [None, None]
