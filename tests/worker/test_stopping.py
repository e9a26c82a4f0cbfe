"""The rules of a stop, without a clock."""

from __future__ import annotations

from engine.worker.stopping import QUIT_GRACE_S, Due, Stopping


def test_a_warm_stop_without_a_deadline_is_never_over() -> None:
    stop = Stopping()
    stop.warm(10.0, None)
    assert stop.due(1e9) is Due.NOTHING
    assert not stop.cold


def test_the_drain_deadline_turns_it_cold_and_then_kills() -> None:
    stop = Stopping()
    stop.warm(10.0, 5.0)
    assert stop.due(14.9) is Due.NOTHING
    assert stop.due(15.0) is Due.TURN_COLD
    assert stop.turn_cold(15.0, 0.0) == 0.0
    assert stop.due(15.0) is Due.NOTHING
    assert stop.due(15.0 + QUIT_GRACE_S) is Due.KILL


def test_the_first_cold_word_grants_its_grace_and_the_second_takes_it() -> None:
    stop = Stopping()
    stop.warm(10.0, None)
    assert stop.turn_cold(11.0, 30.0) == 30.0
    assert stop.due(40.9) is Due.NOTHING
    assert stop.turn_cold(12.0, 30.0) == 0.0
    assert stop.due(12.0 + QUIT_GRACE_S) is Due.KILL


def test_a_grace_never_outlasts_the_drain_deadline() -> None:
    stop = Stopping()
    stop.warm(10.0, 5.0)
    assert stop.turn_cold(11.0, 30.0) == 30.0
    assert stop.due(14.9) is Due.NOTHING
    assert stop.due(15.0) is Due.KILL
