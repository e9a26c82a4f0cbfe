"""Task messages that are not what they claim: a DecodeError that says what is wrong, never more."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kombu.utils import json as kombu_json

from engine.codec import Delivery, TaskMessage, decode_task
from engine.errors import DecodeError

HEADERS = {"task": "t", "id": "an-id"}
BODY = [[], {}, None]


def delivery(body: Any, headers: Any) -> Delivery:
    data = body if isinstance(body, bytes) else kombu_json.dumps(body).encode()
    return Delivery(data, content_type="application/json", content_encoding="utf-8", headers=headers)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "not JSON"),
        (b"\x80\x04", "not JSON"),
        (b"[[],{}", "not JSON"),
        (b"[" * 5000, "nested deeper"),
        (None, "not .args, kwargs, embed"),
        ("text", "not .args, kwargs, embed"),
        (5, "not .args, kwargs, embed"),
        ([], "not .args, kwargs, embed"),
        ([[], {}], "not .args, kwargs, embed"),
        ([[], {}, {}, 1], "not .args, kwargs, embed"),
        (["ab", {}, {}], "args is a str, not a list"),
        ([None, {}, {}], "args is a NoneType, not a list"),
        ([{}, {}, {}], "args is a dict, not a list"),
        ([[], [], {}], "kwargs is a list, not a mapping"),
        ([[], None, {}], "kwargs is a NoneType, not a mapping"),
        ([[], {}, []], "embed is a list, not a mapping"),
        ([[], {}, {"callbacks": {}}], "callbacks is a dict, not a list"),
        ([[], {}, {"errbacks": "x"}], "errbacks is a str, not a list"),
        ([[], {}, {"chain": 1}], "chain is a int, not a list"),
        ([[], {}, {"chord": "x"}], "chord is a str, not a signature"),
        ({"args": 1}, "args is a int, not a list"),
        ({"kwargs": 1}, "kwargs is a int, not a mapping"),
        ({"timelimit": 1}, "timelimit is not .hard, soft"),
    ],
)
def test_bad_bodies(body: Any, complaint: str) -> None:
    with pytest.raises(DecodeError, match=complaint):
        decode_task(delivery(body, HEADERS))


@pytest.mark.parametrize(
    ("headers", "complaint"),
    [
        ({"task": 5}, "task is a int, not a string"),
        ({"id": 5}, "id is a int, not a string"),
        ({"id": None}, "no id"),
        ({"id": ""}, "no id"),
        ({"task": ""}, "names the task"),
        ({"task": None}, "names the task"),
        ({"retries": "1"}, "retries is a str, not an integer"),
        ({"retries": True}, "retries is a bool, not an integer"),
        ({"retries": -1}, "retries is negative"),
        ({"timelimit": 5}, "timelimit is not .hard, soft"),
        ({"timelimit": [1]}, "timelimit is not .hard, soft"),
        ({"timelimit": ["1", None]}, "something other than seconds"),
        ({"timelimit": [None, float("nan")]}, "something other than seconds"),
        ({"timelimit": [float("inf"), None]}, "something other than seconds"),
        ({"timelimit": [10**400, None]}, "something other than seconds"),
        ({"eta": 5}, "eta is a int, not an ISO 8601 time"),
        ({"eta": "tomorrow"}, "eta is no ISO 8601 time: 'tomorrow'"),
        ({"expires": "2030-13-01T00:00:00Z"}, "expires is no ISO 8601 time"),
        ({"expires": "2030-01-01T00:00:00+99:99Z" + "x" * 500}, "expires is no ISO 8601 time"),
        ({"group": 1}, "group is a int"),
        ({"group_index": "1"}, "group_index is a str"),
        ({"root_id": []}, "root_id is a list"),
        ({"parent_id": {}}, "parent_id is a dict"),
        ({"ignore_result": "yes"}, "ignore_result is a str, not true or false"),
        ({"replaced_task_nesting": None, "stamps": []}, "stamps is a list, not a mapping"),
        ({"stamped_headers": "tenant"}, "stamped_headers is a str"),
        ({"stamped_headers": [1]}, "a stamped header is a int"),
    ],
)
def test_bad_headers(headers: dict[str, Any], complaint: str) -> None:
    with pytest.raises(DecodeError, match=complaint):
        decode_task(delivery(BODY, HEADERS | headers))


def test_messages_without_a_task() -> None:
    for body in (BODY, {"id": "an-id"}, {}, "x"):
        with pytest.raises(DecodeError, match="names the task"):
            decode_task(delivery(body, {}))
    with pytest.raises(DecodeError, match="no id"):
        decode_task(delivery({"task": "t"}, None))
    with pytest.raises(DecodeError, match="taskset is a int"):
        decode_task(delivery({"task": "t", "id": "i", "taskset": 5}, None))


names = st.sampled_from([
    "task", "id", "lang", "shadow", "eta", "expires", "group", "group_index", "retries", "timelimit",
    "root_id", "parent_id", "argsrepr", "origin", "ignore_result", "replaced_task_nesting", "stamped_headers",
    "stamps", "args", "kwargs", "callbacks", "errbacks", "chain", "chord", "taskset", "utc", "own",
])  # fmt: skip
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.datetimes()
values = st.recursive(
    scalars, lambda v: st.lists(v, max_size=4) | st.dictionaries(names | st.text(), v, max_size=4)
)


@settings(max_examples=400, deadline=None)
@given(values | st.dictionaries(names, values), st.dictionaries(names, values))
def test_any_shape_gives_a_task_or_a_decode_error(body: Any, headers: dict[str, Any]) -> None:
    try:
        task = decode_task(delivery(body, headers))
    except DecodeError:
        return
    assert isinstance(task, TaskMessage)
    assert isinstance(task.task, str)
    assert isinstance(task.id, str)
    assert isinstance(task.args, (list, tuple))
    assert all(isinstance(name, str) for name in task.kwargs)
