"""Task messages written: celery's own as_task_v2 is the oracle."""

from __future__ import annotations

import pickle
from collections import UserDict
from datetime import datetime, timezone
from typing import Any

import pytest
from celery import Celery
from kombu.utils import json as kombu_json

from engine.codec import Delivery, TaskMessage, decode_task, encode_task_body, encode_task_headers
from engine.errors import EncodeError

ID = "b9a4a1f2-0d4e-4d0f-bb39-0f1e4a3f8d3c"
SIGNATURE = {
    "task": "tasks.log",
    "args": [],
    "kwargs": {},
    "options": {},
    "subtask_type": None,
    "immutable": False,
}
FIELDS: dict[str, Any] = {
    "eta": "2030-01-02T03:04:05.000006+00:00",
    "expires": "2030-01-03T00:00:00+00:00",
    "group": "group-id",
    "group_index": 0,
    "retries": 2,
    "time_limit": 30,
    "soft_time_limit": 20.5,
    "root_id": "root-id",
    "parent_id": "parent-id",
    "shadow": "alias",
    "argsrepr": "(2, 3)",
    "kwargsrepr": "{}",
    "origin": "gen1@host",
    "ignore_result": True,
    "replaced_task_nesting": 1,
    "stamped_headers": ["tenant"],
    "stamps": {"tenant": ["acme"]},
    "callbacks": [SIGNATURE],
    "errbacks": [SIGNATURE],
    "chain": [SIGNATURE, SIGNATURE],
    "chord": SIGNATURE,
}  # fmt: skip

#: What as_task_v2 calls the same thing.
CELERY_NAMES = {"group": "group_id"}


@pytest.fixture(scope="module")
def celery() -> Celery:
    return Celery(set_as_current=False)


def celery_message(app: Celery, args: Any = (2, 3), kwargs: Any = None, **fields: Any) -> Any:
    options = {CELERY_NAMES.get(name, name): value for name, value in fields.items() if name != "stamps"}
    return app.amqp.as_task_v2(ID, "tasks.add", args, kwargs, **options, **fields.get("stamps", {}))


def delivered(task: TaskMessage, lean: bool) -> Delivery:
    return Delivery(
        encode_task_body(task),
        content_type="application/json",
        content_encoding="utf-8",
        headers=encode_task_headers(task, lean),
        properties={"reply_to": task.reply_to, "correlation_id": task.correlation_id},
    )


@pytest.mark.parametrize(
    "fields", [{}, FIELDS, *({name: FIELDS[name]} for name in FIELDS if name != "stamps")]
)
def test_full_headers_and_body_are_celerys(celery: Celery, fields: dict[str, Any]) -> None:
    if "stamped_headers" in fields:
        fields = fields | {"stamps": FIELDS["stamps"]}
    theirs = celery_message(celery, **fields)
    informational = {name: theirs.headers[name] for name in ("argsrepr", "kwargsrepr", "origin")}
    ours = TaskMessage("tasks.add", ID, (2, 3), **(fields | informational | {
        "ignore_result": fields.get("ignore_result", theirs.headers["ignore_result"])
    }))  # fmt: skip
    headers = encode_task_headers(ours, lean=False)
    assert headers == theirs.headers
    assert list(headers) == list(theirs.headers)
    assert kombu_json.loads(encode_task_body(ours)) == kombu_json.loads(kombu_json.dumps(theirs.body))


def test_lean_headers_of_a_plain_task() -> None:
    assert encode_task_headers(TaskMessage("t", ID, root_id=ID)) == {"task": "t", "id": ID}


@pytest.mark.parametrize("lean", [True, False])
@pytest.mark.parametrize(
    "fields", [{}, FIELDS, {"ignore_result": False}, {"time_limit": 5}, {"soft_time_limit": 0.5}]
)
def test_every_field_survives_the_wire(fields: dict[str, Any], lean: bool) -> None:
    sent = TaskMessage(
        "tasks.add", ID, [1, {"a": b"x"}], {"k": datetime(2024, 1, 2, tzinfo=timezone.utc)},
        reply_to="oid", correlation_id=ID, headers={"tenant": "acme", "n": {"deep": [1]}}, **fields,
    )  # fmt: skip
    got = decode_task(delivered(sent, lean))
    sent.root_id = sent.root_id or sent.id
    assert got == sent


def test_timelimit_is_hard_then_soft() -> None:
    headers = encode_task_headers(TaskMessage("t", ID, time_limit=30, soft_time_limit=20))
    assert headers["timelimit"] == [30, 20]


def test_lean_says_false_but_not_none_of_ignore_result() -> None:
    assert encode_task_headers(TaskMessage("t", ID, ignore_result=False))["ignore_result"] is False
    assert "ignore_result" not in encode_task_headers(TaskMessage("t", ID))


@pytest.mark.parametrize("lean", [True, False])
def test_user_headers_are_merged_last_and_the_brokers_left_out(lean: bool) -> None:
    own = {
        "tenant": "acme",
        "group": "mine",
        "x-death": [{"count": 1}],
        "x-first-death-queue": "q",
        "x-delivery-count": 2,
    }
    task = TaskMessage("t", ID, headers=own)
    headers = encode_task_headers(task, lean)
    assert headers["tenant"] == "acme"
    assert headers["group"] == "mine"
    assert not [name for name in headers if name.startswith("x-")]
    assert own["x-death"]  # the task's own dict is left alone


@pytest.mark.parametrize("args", [(), [], (1,), [1, "é"], ({"a": 1},)])
@pytest.mark.parametrize("kwargs", [None, {}, {"k": 1}, UserDict(k=2)])
def test_the_body_is_celerys_triple(args: Any, kwargs: Any) -> None:
    body = kombu_json.loads(encode_task_body(TaskMessage("t", ID, args, kwargs)))
    none = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    assert body == [list(args), dict(kwargs or {}), none]


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"args": "ab"}, "list or tuple, not str"),
        ({"args": None}, "list or tuple, not NoneType"),
        ({"kwargs": [1]}, "mapping, not list"),
        ({"args": [object()]}, "not JSON serializable"),
        ({"kwargs": {"k": {1, 2}}}, "not JSON serializable"),
    ],
)
def test_arguments_of_the_wrong_kind(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(EncodeError, match=complaint):
        encode_task_body(TaskMessage("t", ID, **fields))


@pytest.mark.parametrize(("name", "id"), [(None, ID), ("t", None), (b"t", ID), ("t", 7)])
def test_a_task_without_name_or_id_is_not_written(name: Any, id: Any) -> None:
    with pytest.raises(EncodeError, match="name and id"):
        encode_task_headers(TaskMessage(name, id))


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(TypeError, match="etaa"):
        TaskMessage("t", ID, etaa="soon")  # type: ignore[call-arg]


def test_equality_repr_and_pickle() -> None:
    task = TaskMessage("t", ID, (1, 2), {"password": "hunter2"}, **FIELDS)
    assert task == TaskMessage("t", ID, [1, 2], {"password": "hunter2"}, **FIELDS)
    assert task != TaskMessage("t", ID, (1, 3), {"password": "hunter2"}, **FIELDS)
    assert task != TaskMessage("t", ID, (1, 2), {"password": "hunter2"}, **(FIELDS | {"eta": None}))
    assert task != "t"
    assert "hunter2" not in repr(task)
    assert ID in repr(task)
    assert pickle.loads(pickle.dumps(task)) == task
    with pytest.raises(TypeError, match="unhashable"):
        hash(task)


def test_defaults() -> None:
    task = TaskMessage("t", ID)
    assert (task.args, task.kwargs, task.retries, task.replaced_task_nesting) == ((), {}, 0, 0)
    assert task.ignore_result is None
    assert TaskMessage("t", ID).kwargs is not task.kwargs
