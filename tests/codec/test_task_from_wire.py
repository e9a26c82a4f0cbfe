"""A task read from the headers as they came is the one that is read from them decoded."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.operations import delivered
from engine.codec import (
    Delivery,
    FrameDecoder,
    Message,
    decode_task,
    encode_publish,
    json_encode,
    take_without,
)
from engine.errors import EngineError

NAMES = [
    "lang",
    "task",
    "id",
    "shadow",
    "eta",
    "expires",
    "group",
    "group_index",
    "retries",
    "timelimit",
    "root_id",
    "parent_id",
    "argsrepr",
    "kwargsrepr",
    "origin",
    "ignore_result",
    "replaced_task_nesting",
    "stamped_headers",
    "stamps",
    "compression",
    "redelivered",
    "meth",
    "my-own",
    "x",
    "tasq",
    "idd",
    "etb",
]
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 9),
    st.text(max_size=5),
    st.just("2030-01-02T03:04:05"),
    st.lists(st.one_of(st.none(), st.integers(0, 9), st.text(max_size=3)), max_size=3),
    st.dictionaries(st.sampled_from(["a", "b"]), st.integers(0, 3), max_size=2),
)
headers = st.dictionaries(st.sampled_from(NAMES), values, max_size=len(NAMES))
bodies = st.sampled_from(
    [
        [[1], {"k": 2}, {}],
        [[1], {}, {"callbacks": None, "errbacks": [], "chain": [{"task": "a"}], "chord": None}],
        {"task": "old", "id": "1", "args": [1], "kwargs": {}, "retries": 2, "eta": None},
        {"args": [1]},
        "no task",
    ]
)


def received(message: Message) -> Delivery:
    (delivery,) = FrameDecoder().feed(delivered(encode_publish([message])))
    assert isinstance(delivery, Delivery)
    return delivery


def read(delivery: Delivery) -> Any:
    try:
        return decode_task(delivery, unpack=lambda packed: packed.body)
    except EngineError as error:
        return type(error), str(error)


@given(headers=headers, body=bodies, reply_to=st.sampled_from([None, "", "answers"]))
def test_both_ways_agree(headers: dict[str, Any], body: Any, reply_to: str | None) -> None:
    complete = {"task": "t", "id": "i", **headers}
    for given_headers in (headers, complete):
        message = Message(json_encode(body), headers=given_headers, correlation_id="c", reply_to=reply_to)
        decoded = received(message)
        assert decoded.headers is decoded.headers, "decoded, and kept"
        assert decoded.properties["correlation_id"] == "c"
        assert read(received(message)) == read(decoded)


def test_a_compressed_body_is_unpacked_or_refused() -> None:
    message = Message(b"packed", headers={"task": "t", "id": "i", "compression": "application/x-mine"})
    unpacked = decode_task(
        received(message), unpack=lambda packed: json_encode([[packed.body.decode()], {}, {}])
    )
    assert unpacked.args == ["packed"]
    with pytest.raises(EngineError, match="compressed"):
        decode_task(received(message))


def test_deliveries_are_taken_up_to_the_first_with_the_header() -> None:
    plain, marked = Message(b"1", headers={"a": 1}), Message(b"2", headers={"x-mark": 5})
    given_headers = Delivery(b"3", headers={"x-mark": 1})
    ready = deque([received(plain), received(plain), received(marked), received(plain)])
    taken: list[Delivery] = []
    take_without(ready, taken, 1, b"x-mark")
    assert (len(taken), len(ready)) == (1, 3)
    take_without(ready, taken, 0, b"x-mark")
    assert ([one.body for one in taken], len(ready)) == ([b"1", b"1"], 2)
    take_without(deque([given_headers]), taken, 0, b"x-mark")
    assert len(taken) == 2
    ready[0].headers["x-mark"] = None
    del ready[0].headers["x-mark"]
    take_without(ready, taken, 0, b"x-mark")
    assert not ready, "headers that were decoded are what counts"
