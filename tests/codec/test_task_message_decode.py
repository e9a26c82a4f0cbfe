"""Task messages read: protocol 2 as celery and others write it, protocol 1, hybrid, other content."""

from __future__ import annotations

import zlib
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.worker.strategy import hybrid_to_proto2, proto1_to_proto2
from kombu import serialization
from kombu.utils import json as kombu_json

from engine.codec import Delivery, decode_task
from engine.errors import ContentDisallowed, DecodeError

ID = "b9a4a1f2-0d4e-4d0f-bb39-0f1e4a3f8d3c"
EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


@pytest.fixture(scope="module")
def celery() -> Celery:
    return Celery(set_as_current=False)


def delivery(body: Any, headers: dict[str, Any] | None = None, **fields: Any) -> Delivery:
    data = body if isinstance(body, bytes) else kombu_json.dumps(body).encode()
    fields = {"content_type": "application/json", "content_encoding": "utf-8"} | fields
    return Delivery(data, headers=headers, **fields)


def test_celerys_message_with_everything(celery: Celery) -> None:
    signature = celery.signature("tasks.next", args=(1,))
    message = celery.amqp.as_task_v2(
        ID, "tasks.add", (1, 2), {"k": "v"}, countdown=10, expires=60, group_id="g", group_index=3, retries=1,
        chord=signature, callbacks=[signature], errbacks=[signature], chain=[signature], time_limit=9,
        soft_time_limit=7, root_id="r", parent_id="p", shadow="s", stamped_headers=["tenant"], tenant="acme",
    )  # fmt: skip
    properties = {"reply_to": "oid", "correlation_id": ID, "priority": 3}
    got = decode_task(delivery(message.body, {**message.headers, "own": 1}, properties=properties))
    assert (got.task, got.id, got.args, got.kwargs) == ("tasks.add", ID, [1, 2], {"k": "v"})
    assert (got.time_limit, got.soft_time_limit) == (9, 7)
    assert (got.group, got.group_index, got.retries, got.root_id, got.parent_id) == ("g", 3, 1, "r", "p")
    assert (got.eta, got.expires) == (message.headers["eta"], message.headers["expires"])
    assert (got.shadow, got.argsrepr, got.origin) == ("s", "(1, 2)", message.headers["origin"])
    assert (got.stamped_headers, got.stamps) == (["tenant"], {"tenant": "acme"})
    plain = {**signature, "args": [1]}
    assert got.callbacks == got.errbacks == got.chain == [plain]
    assert got.chord == plain
    assert (got.reply_to, got.correlation_id, got.headers) == ("oid", ID, {"own": 1})


def test_the_least_message_and_its_defaults() -> None:
    got = decode_task(delivery([[], {}, None], {"task": "t", "id": ID}))
    assert (got.args, got.kwargs, got.retries, got.replaced_task_nesting) == ([], {}, 0, 0)
    assert got.root_id == ID
    assert got.ignore_result is None
    assert (got.headers, got.callbacks, got.chain, got.chord, got.time_limit) == (
        None,
        None,
        None,
        None,
        None,
    )
    assert decode_task(delivery([[], {}, {}], {"task": "t", "id": ID})) == got
    assert (
        decode_task(delivery([[], {}, EMBED], {"task": "t", "id": ID, "stamps": {}, "shadow": None})) == got
    )


def test_only_the_users_headers_are_kept_as_headers() -> None:
    headers = {
        "task": "t", "id": ID, "lang": "js", "meth": None, "redelivered": True, "x-death": [], "own": None,
        "b": b"1",
    }  # fmt: skip
    assert decode_task(delivery([[], {}, None], headers)).headers == {"x-death": [], "own": None, "b": b"1"}


def test_informational_headers_never_lose_a_task() -> None:
    headers = {"task": "t", "id": ID, "argsrepr": ["a"], "kwargsrepr": {"k": 1}, "origin": 5, "shadow": 7}
    got = decode_task(delivery([[], {}, None], headers))
    assert (got.argsrepr, got.kwargsrepr, got.origin, got.shadow) == ("['a']", "{'k': 1}", "5", "7")


def fields_of(message: SimpleNamespace, body: dict[str, Any]) -> dict[str, Any]:
    """What celery's worker makes of an old message."""
    convert = hybrid_to_proto2 if "args" in body else proto1_to_proto2
    (args, kwargs, embed), headers, _, _ = convert(message, body)
    return {
        "args": args,
        "kwargs": kwargs,
        **embed,
        **{name: headers.get(name) for name in ("task", "id", "eta")},
    }


@pytest.mark.parametrize(
    "drop", [(), ("args",), ("kwargs",), ("args", "kwargs"), ("chord", "callbacks", "errbacks")]
)
def test_protocol_1_as_celery_understands_it(celery: Celery, drop: tuple[str, ...]) -> None:
    signature = dict(celery.signature("tasks.next"))
    message = celery.amqp.as_task_v1(
        ID, "tasks.add", [1, 2], {"k": 1}, countdown=5, expires=60, group_id="g", group_index=1, retries=2,
        chord=signature, callbacks=[signature], errbacks=[signature], time_limit=9, soft_time_limit=7,
    )  # fmt: skip
    body = {name: value for name, value in message.body.items() if name not in drop}
    got = decode_task(delivery(body, {}, properties={"correlation_id": ID, "reply_to": ""}))
    theirs = fields_of(SimpleNamespace(headers={}), kombu_json.loads(kombu_json.dumps(body)))
    for name, value in theirs.items():
        ours = getattr(got, name)
        assert (list(ours) if name == "args" else ours) == (list(value) if name == "args" else value), name
    assert (got.group, got.group_index, got.retries, got.expires) == ("g", 1, 2, body["expires"])
    assert (got.time_limit, got.soft_time_limit, got.root_id) == (9, 7, ID)
    assert (got.headers, got.reply_to, got.correlation_id) == (None, None, ID)


def test_taskset_is_the_group() -> None:
    body = {"task": "t", "id": ID, "args": [], "kwargs": {}}
    assert decode_task(delivery(body | {"taskset": "s"})).group == "s"
    assert decode_task(delivery(body | {"taskset": "s", "group": "g"})).group == "g"
    assert decode_task(delivery(body | {"taskset": None})).group is None


def test_hybrid_headers_win_over_the_body() -> None:
    body = {
        "task": "old",
        "id": "old-id",
        "args": [1],
        "kwargs": {},
        "retries": 1,
        "eta": None,
        "chain": [{}],
    }
    headers = {"task": "t", "id": ID, "retries": 3, "shadow": "s", "own": 1, "group": None}
    got = decode_task(delivery(body, headers))
    assert (got.task, got.id, got.retries, got.shadow, got.args, got.headers) == (
        "t",
        ID,
        3,
        "s",
        [1],
        {"own": 1},
    )
    assert got.chain is None


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2030-01-02T03:04:05", datetime(2030, 1, 2, 3, 4, 5)),  # noqa: DTZ001  naive is meant
        ("2030-01-02 03:04:05.000007", datetime(2030, 1, 2, 3, 4, 5, 7)),  # noqa: DTZ001  naive is meant
        ("2030-01-02T03:04:05Z", datetime(2030, 1, 2, 3, 4, 5, tzinfo=timezone.utc)),
        ("2030-01-02T03:04:05.123Z", datetime(2030, 1, 2, 3, 4, 5, 123000, tzinfo=timezone.utc)),
        ("2030-01-02T03:04:05.1234567+00:00", datetime(2030, 1, 2, 3, 4, 5, 123456, tzinfo=timezone.utc)),
        (
            "2030-01-02T03:04:05.5-0330",
            datetime(2030, 1, 2, 3, 4, 5, 500000, tzinfo=timezone(-timedelta(hours=3.5))),
        ),
        ("2030-01-02T03:04:05.5 z", datetime(2030, 1, 2, 3, 4, 5, 500000, tzinfo=timezone.utc)),
        ("2030-01-02 03:04:05 -01", datetime(2030, 1, 2, 3, 4, 5, tzinfo=timezone(-timedelta(hours=1)))),
        ("2030-01-02T03:04+02", datetime(2030, 1, 2, 3, 4, tzinfo=timezone(timedelta(hours=2)))),
    ],
)
@pytest.mark.parametrize("name", ["eta", "expires"])
def test_times_can_be_read_by_fromisoformat(name: str, text: str, moment: datetime) -> None:
    for got in (
        decode_task(delivery([[], {}, None], {"task": "t", "id": ID, name: text})),
        decode_task(delivery({"task": "t", "id": ID, name: text})),
    ):
        read = datetime.fromisoformat(getattr(got, name))
        assert (read, read.utcoffset()) == (moment, moment.utcoffset())


def test_times_that_came_as_objects_or_empty() -> None:
    moment = datetime(2030, 1, 2, tzinfo=timezone.utc)
    got = decode_task(delivery([[], {}, None], {"task": "t", "id": ID, "eta": moment, "expires": ""}))
    assert (got.eta, got.expires) == (moment.isoformat(), None)
    assert decode_task(delivery({"task": "t", "id": ID, "eta": moment})).eta == moment.isoformat()


def test_an_empty_compression_header_means_none() -> None:
    assert decode_task(delivery([[1], {}, None], {"task": "t", "id": ID, "compression": ""})).args == [1]


@pytest.mark.parametrize("encoding", [None, "utf-8", "UTF-8", "utf8", "binary"])
def test_plain_json_never_asks_loads(encoding: str | None) -> None:
    def loads(*args: Any) -> Any:
        raise AssertionError(args)

    sent = delivery([["é"], {}, None], {"task": "t", "id": ID}, content_encoding=encoding)
    assert decode_task(sent, loads).args == ["é"]


def test_other_content_goes_to_loads_as_it_came() -> None:
    asked = []

    def loads(*args: Any) -> Any:
        asked.append(args)
        return ((1,), {"k": 2}, {"chain": ({"task": "n"},)})

    _, _, pickled = serialization.dumps([(1,), {"k": 2}, {}], serializer="pickle")
    kind = {"content_type": "application/x-python-serialize", "content_encoding": "binary"}
    got = decode_task(delivery(pickled, {"task": "t", "id": ID}, **kind), loads)
    assert asked == [(pickled, "application/x-python-serialize", "binary")]
    assert (got.args, got.kwargs, got.chain) == ((1,), {"k": 2}, [{"task": "n"}])

    packed = zlib.compress(b"[[1],{},{}]")
    decode_task(delivery(packed, {"task": "t", "id": ID, "compression": "application/x-gzip"}), loads)
    decode_task(delivery(b"[[1],{},{}]", {"task": "t", "id": ID}, content_encoding="latin-1"), loads)
    decode_task(delivery(b"[[1],{},{}]", {"task": "t", "id": ID}, content_type=None), loads)
    assert asked[1:] == [
        (packed, "application/json", "utf-8"),
        (b"[[1],{},{}]", "application/json", "latin-1"),
        (b"[[1],{},{}]", None, "utf-8"),
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {"content_type": "application/x-python-serialize"},
        {"content_type": "application/x-yaml"},
        {"content_type": None},
        {"content_encoding": "utf-16"},
        {"headers": {"compression": "application/x-gzip"}},
    ],
)
def test_without_loads_nothing_but_plain_json_is_read(fields: dict[str, Any]) -> None:
    headers = {"task": "t", "id": ID} | fields.pop("headers", {})
    with pytest.raises(ContentDisallowed, match="body is"):
        decode_task(delivery([[], {}, None], headers, **fields))


def test_what_loads_raises_is_let_through() -> None:
    def loads(*args: Any) -> Any:
        raise ContentDisallowed("no yaml here")

    with pytest.raises(ContentDisallowed, match="no yaml here"):
        decode_task(delivery(b"x", {"task": "t", "id": ID}, content_type="application/x-yaml"), loads)


def test_keys_from_other_serializers_must_be_strings() -> None:
    sent = delivery(b"x", {"task": "t", "id": ID}, content_type="application/x-msgpack")
    with pytest.raises(DecodeError, match="a key of kwargs is a int"):
        decode_task(sent, lambda *_: [[], {1: 2}, {}])
