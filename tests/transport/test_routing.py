"""Exchange routing, against RabbitMQ's rules and a slow, obvious twin."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import DeclareConflict, QueueNotFound
from engine.transport.routing import Binding, RoutingTable, headers_match, topic_matches


@pytest.mark.parametrize(
    ("pattern", "key", "expected"),
    [
        ("", "", True),
        ("", "a", False),
        ("a", "a", True),
        ("a", "a.b", False),
        ("*", "a", True),
        ("*", "", False),
        ("*", "a.b", False),
        ("#", "", True),
        ("#", "a.b.c", True),
        ("task.#", "task", True),
        ("task.#", "task.sent.twice", True),
        ("task.*", "task", False),
        ("*.sent", "task.sent", True),
        ("#.sent", "sent", True),
        ("#.a.#", "x.a.y.z", True),
        ("#.a.#", "x.b.y", False),
        ("a.*.#.c", "a.c", False),
        ("a.*.#.c", "a.b.c", True),
        ("a.*.#.c", "a.b.x.y.c", True),
    ],
)
def test_topic(pattern: str, key: str, expected: bool) -> None:
    assert topic_matches(pattern, key) is expected


def _slow(pattern: list[str], words: list[str]) -> bool:
    if not pattern:
        return not words
    if pattern[0] == "#":
        return any(_slow(pattern[1:], words[skipped:]) for skipped in range(len(words) + 1))
    return bool(words) and pattern[0] in ("*", words[0]) and _slow(pattern[1:], words[1:])


@given(
    st.lists(st.sampled_from(["a", "b", "*", "#"]), max_size=6), st.lists(st.sampled_from("ab"), max_size=6)
)
def test_topic_against_the_slow_way(pattern: list[str], words: list[str]) -> None:
    assert topic_matches(".".join(pattern), ".".join(words)) is _slow(pattern, words)


def test_no_pattern_is_slow() -> None:
    assert topic_matches(".".join(["#"] * 100 + ["x"]), ".".join(["a"] * 200)) is False


@pytest.mark.parametrize(
    ("arguments", "headers", "expected"),
    [
        ({}, {}, True),
        ({"a": 1}, {"a": 1, "b": 2}, True),
        ({"a": 1, "b": 2}, {"a": 1}, False),
        ({"x-match": "any", "a": 1, "b": 2}, {"a": 1}, True),
        ({"x-match": "any"}, {"a": 1}, False),
        ({"a": None}, {"a": "whatever"}, True),
        ({"a": None}, {}, False),
        ({"x-other": 1, "a": 1}, {"a": 1}, True),
        ({"x-match": "all-with-x", "x-other": 1}, {}, False),
        ({"x-match": "any-with-x", "x-other": 1}, {"x-other": 1}, True),
    ],
)
def test_headers(arguments: dict[str, object], headers: dict[str, object], expected: bool) -> None:
    assert headers_match(arguments, headers) is expected


def _table() -> RoutingTable:
    table = RoutingTable()
    for name in ("q1", "q2", "q3"):
        table.add_queue(name)
    return table


def test_the_default_exchange_routes_by_queue_name() -> None:
    table = _table()
    assert table.route("", "q1", None) == ("q1",)
    assert table.route("", "missing", None) == ()


def test_an_unknown_exchange() -> None:
    with pytest.raises(QueueNotFound, match="'nowhere'"):
        _table().route("nowhere", "key", None)


def test_every_type_routes_and_each_queue_gets_one_copy() -> None:
    table = _table()
    for kind in ("direct", "topic", "fanout", "headers"):
        table.add_exchange(kind, kind)
        table.bind(kind, Binding("q1", "a.*", {"h": 1}))
        table.bind(kind, Binding("q1", "*.b", {"h": 1}))
        table.bind(kind, Binding("q2", "a.b", {"h": 2}))
    assert table.route("direct", "a.b", {}) == ("q2",)
    assert table.route("topic", "a.b", {}) == ("q1", "q2")
    assert table.route("fanout", "anything", {}) == ("q1", "q2")
    assert table.route("headers", "ignored", {"h": 2}) == ("q2",)
    assert table.route("amq.topic", "a.b", {}) == ()


def test_changes_are_seen_at_once() -> None:
    table = _table()
    table.add_exchange("x", "direct")
    assert table.route("x", "k", None) == ()
    table.bind("x", Binding("q1", "k"))
    assert table.route("x", "k", None) == ("q1",)
    table.bind("x", Binding("q2", "k"))
    assert table.route("x", "k", None) == ("q1", "q2")
    table.remove_queue("q1")
    assert table.route("x", "k", None) == ("q2",)
    assert not table.has_queue("q1")
    assert table.queue_names() == ["q2", "q3"]


def test_another_type_conflicts() -> None:
    table = _table()
    table.add_exchange("x", "direct")
    table.add_exchange("x", "direct")
    with pytest.raises(DeclareConflict, match=r"'direct'.*'topic'"):
        table.add_exchange("x", "topic")
    with pytest.raises(DeclareConflict, match="x-delayed-message"):
        table.add_exchange("y", "x-delayed-message")


def test_routes_remembered_are_bounded() -> None:
    table = _table()
    table.add_exchange("x", "topic")
    table.bind("x", Binding("q1", "#"))
    for number in range(25_000):
        assert table.route("x", f"key.{number}", None) == ("q1",)
    assert len(table._routes) <= 10_000
