"""Hypothesis strategies for what AMQP can hold, and the messages the tests share."""

from __future__ import annotations

import datetime
import re
from decimal import Decimal

from hypothesis import strategies as st

from engine.codec import Message


def shown(value: object) -> str:
    """The id of a parameter: its repr without addresses, for every process must call a test the same."""
    return re.sub(" at 0x[0-9a-f]+", "", repr(value))


def naive_utc(
    year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0
) -> datetime.datetime:
    """A moment as py-amqp gives it: in UTC, and not saying so."""
    moment = datetime.datetime(year, month, day, hour, minute, second, tzinfo=datetime.timezone.utc)
    return moment.replace(tzinfo=None)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
short_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
timestamps = st.datetimes(naive_utc(1970, 1, 1), naive_utc(9999, 12, 31, 23, 59, 59)).map(
    lambda moment: moment.replace(microsecond=0)
)
decimals = st.builds(
    lambda unscaled, scale: Decimal(unscaled).scaleb(-scale),
    st.integers(-(2**31) + 1, 2**31 - 1),
    st.integers(0, 18),
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    texts,
    timestamps,
    decimals,
)


def tables_of(leaves: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, object]]:
    values = st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(short_texts, inner, max_size=4),
        max_leaves=12,
    )
    return st.dictionaries(short_texts, values, max_size=6)


tables = tables_of(scalars | st.binary(max_size=40))
tables_for_amqp = tables_of(scalars)  # py-amqp writes bytes as a string


def messages_with(headers: st.SearchStrategy[dict[str, object]]) -> st.SearchStrategy[Message]:
    return st.builds(
        Message,
        st.binary(max_size=200),
        content_type=st.none() | short_texts,
        content_encoding=st.none() | short_texts,
        headers=st.none() | headers,
        exchange=short_texts,
        routing_key=short_texts,
        delivery_mode=st.none() | st.integers(0, 255),
        priority=st.none() | st.integers(0, 255),
        correlation_id=st.none() | short_texts,
        reply_to=st.none() | short_texts,
        expiration_ms=st.none() | st.integers(0, 2**40),
        message_id=st.none() | short_texts,
        timestamp=st.none() | st.integers(0, 2**64 - 1),
        type=st.none() | short_texts,
        user_id=st.none() | short_texts,
        app_id=st.none() | short_texts,
    )


messages = messages_with(tables)
messages_for_amqp = messages_with(tables_for_amqp)

PLAIN = Message(
    b"[[1, 2], {}, {}]",
    headers={
        "lang": "py",
        "task": "proj.add",
        "id": "2b9f",
        "retries": 0,
        "eta": None,
        "timelimit": [None, 1.5],
    },
    routing_key="celery",
    correlation_id="2b9f",
    reply_to="a1",
    priority=3,
)
FULL = Message(
    b"\x00\xce\xff" * 5,
    content_type="application/x-thing",
    content_encoding="binary",
    headers={"nested": {"list": [1, {"deep": True}]}, "é": "ü", "big": 2**40, "price": Decimal("1.50")},
    exchange="ex",
    routing_key="a.b",
    delivery_mode=1,
    priority=9,
    correlation_id="corr",
    reply_to="reply",
    expiration_ms=60000,
    message_id="mid",
    timestamp=1_700_000_000,
    type="kind",
    user_id="guest",
    app_id="app",
)
BARE = Message(b"", content_type=None, content_encoding=None, delivery_mode=None)
