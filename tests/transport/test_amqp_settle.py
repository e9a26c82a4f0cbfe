"""Acknowledgements in few frames, held against a broker that closes the channel over any mistake."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.transport.amqp_settle import Tags


class StrictBroker:
    """Keeps what is unacknowledged the way RabbitMQ does."""

    def __init__(self, count: int) -> None:
        self.unacked = set(range(1, count + 1))

    def ack(self, tag: int, multiple: bool) -> None:
        assert tag in self.unacked, f"unknown delivery tag {tag}: the broker would close the channel"
        self.unacked -= {each for each in self.unacked if each <= tag} if multiple else {tag}


def test_a_run_is_one_frame() -> None:
    tags = Tags()
    assert tags.settle([1, 2, 3]) == [(3, True)]
    assert tags.settle([4]) == [(4, False)]


def test_a_gap_is_never_covered() -> None:
    tags = Tags()
    assert tags.settle([2, 3]) == [(2, False), (3, False)]
    assert tags.settle([1]) == [(1, False)]
    assert tags.settle([4, 5]) == [(5, True)]


def test_out_of_order_within_one_call() -> None:
    assert Tags().settle([3, 1, 2, 5]) == [(3, True), (5, False)]


def test_settled_once() -> None:
    tags = Tags()
    tags.settle([1, 3])
    assert tags.settle([1, 3]) == []
    assert tags.settle([]) == []


COUNT_AND_ORDER = st.integers(1, 30).flatmap(
    lambda count: st.tuples(st.just(count), st.permutations(range(1, count + 1)))
)


@settings(deadline=None)
@given(COUNT_AND_ORDER, st.data())
def test_whatever_the_order_all_and_only_those_are_settled(
    case: tuple[int, list[int]], data: st.DataObject
) -> None:
    count, order = case
    tags, broker = Tags(), StrictBroker(count)
    settled: set[int] = set()
    while order:
        size = data.draw(st.integers(1, len(order)))
        group, order = order[:size], order[size:]
        repeated = group + data.draw(st.lists(st.sampled_from(group), max_size=2))
        for tag, multiple in tags.settle(repeated):
            broker.ack(tag, multiple)
        settled.update(group)
        assert broker.unacked == set(range(1, count + 1)) - settled
