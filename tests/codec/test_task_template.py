"""Messages from a template: the same bytes as the long way's, and nothing it cannot judge."""

from __future__ import annotations

import uuid
from collections import UserDict
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.codec import (
    Message,
    TaskMessage,
    TaskTemplate,
    encode_publish,
    encode_task_body,
    encode_task_headers,
    format_ids,
)
from engine.errors import EncodeError

ID = "b9a4a1f2-0d4e-4d0f-bb39-0f1e4a3f8d3c"
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=300)
ascii_ids = st.text(st.characters(max_codepoint=127), max_size=80)
arguments = st.lists(
    st.none() | st.integers() | st.floats(allow_nan=False) | st.text() | st.uuids(), max_size=4
)


def the_long_way(name: str, task_id: str, args: Any, kwargs: Any, ignored: bool | None) -> Message:
    task = TaskMessage(name, task_id, args, kwargs, ignore_result=ignored)
    return Message(
        encode_task_body(task),
        headers=encode_task_headers(task),
        exchange="tasks",
        routing_key="add",
        priority=4,
        delivery_mode=1,
        correlation_id=task_id,
        reply_to="me",
    )


@given(names, ascii_ids, arguments, st.none() | st.booleans())
def test_the_same_bytes_as_the_long_way(name: str, task_id: str, args: Any, ignored: bool | None) -> None:
    template = TaskTemplate(name, exchange="tasks", routing_key="add", delivery_mode=1, priority=4)
    kwargs = {"key": args}
    made = template.message(task_id, tuple(args), kwargs, ignored, "me")
    wanted = the_long_way(name, task_id, args, kwargs, ignored)
    assert made is not None
    assert encode_publish([made]) == encode_publish([wanted])
    assert made == wanted
    assert made.headers == wanted.headers


class Pair(NamedTuple):
    left: int
    right: int


@pytest.mark.parametrize(
    ("task_id", "args", "kwargs"),
    [
        (ID, "no list", {}),
        (ID, Pair(1, 2), {}),
        (ID, {1, 2}, {}),
        (ID, (), UserDict()),
        (ID, (), None),
        ("ä", (), {}),
    ],
)
def test_what_it_leaves_to_others(task_id: str, args: Any, kwargs: Any) -> None:
    assert TaskTemplate("add").message(task_id, args, kwargs) is None


def test_what_cannot_be_written_raises() -> None:
    with pytest.raises(EncodeError):
        TaskTemplate("add").message(ID, (object(),), {})
    with pytest.raises(TypeError):
        TaskTemplate(None)  # type: ignore[arg-type]


@given(st.binary(max_size=200))
def test_ids_are_version_4_uuids_of_the_bytes(random: bytes) -> None:
    blocks = [random[at : at + 16] for at in range(0, len(random) // 16 * 16, 16)]
    assert format_ids(random) == [str(uuid.UUID(bytes=block, version=4)) for block in blocks]
