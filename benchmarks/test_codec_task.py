"""The task half of the codec beside celery and kombu, timed in the same run; ratios have floors (`ratio.py`).

Run with ``python -m pytest benchmarks/test_codec_task.py``.
celery is measured at its best: `argsrepr` and `origin` are given, not computed.
"""

from __future__ import annotations

from typing import Any

import pytest
from celery.worker.request import Request
from kombu import Connection
from kombu.message import Message as KombuMessage
from kombu.transport.virtual import Message as VirtualMessage
from kombu.utils import json as kombu_json

from benchmarks.celery_app import add, app
from benchmarks.operations import ARGS, ID, NAME, REPLY_TO
from benchmarks.ratio import faster
from engine.codec import (
    Delivery,
    Message,
    TaskMessage,
    decode_envelope,
    decode_task,
    encode_envelope,
    encode_task_body,
    encode_task_headers,
    json_decode,
    json_encode,
)

ROWS = [{"id": row, "name": f"customer {row}", "price": row * 1.5, "tags": ["a", "b"]} for row in range(200)]


def delivery(headers: dict[str, Any], body: bytes) -> Delivery:
    return Delivery(
        body,
        content_type="application/json",
        content_encoding="utf-8",
        headers=headers,
        properties={"correlation_id": ID, "reply_to": REPLY_TO},
    )


@pytest.mark.parametrize(("lean", "floor"), [(True, 5.9), (False, 4.5)], ids=["lean", "full"])
def test_encode_a_task(benchmark: Any, lean: bool, floor: float) -> None:
    def ours() -> object:
        task = TaskMessage(NAME, ID, ARGS, argsrepr="(2, 3)", kwargsrepr="{}", origin="gen1@host")
        return encode_task_headers(task, lean), encode_task_body(task)

    def theirs() -> object:
        message = app.amqp.as_task_v2(
            ID, NAME, ARGS, None, argsrepr="(2, 3)", kwargsrepr="{}", origin="gen1@host"
        )
        return message.headers, kombu_json.dumps(message.body).encode()

    what = f"headers and body, {'lean' if lean else 'full'} headers"
    faster(benchmark, what, ours, "celery", theirs, floor)


@pytest.mark.parametrize(("lean", "floor"), [(True, 6), (False, 4.7)], ids=["lean", "full"])
def test_decode_a_task(benchmark: Any, lean: bool, floor: float) -> None:
    task = TaskMessage(NAME, ID, ARGS, argsrepr="(2, 3)", kwargsrepr="{}", origin="gen1@host")
    headers, body = encode_task_headers(task, lean), encode_task_body(task)
    ours = delivery(headers, body)

    def theirs() -> object:
        message = KombuMessage(
            body, content_type="application/json", content_encoding="utf-8", headers=headers,
            accept={"application/json"}, properties={"correlation_id": ID, "reply_to": REPLY_TO},
            delivery_info={"exchange": "", "routing_key": "q"},
        )  # fmt: skip
        return Request(message, app=app, task=add, hostname="host")

    what = f"delivery to task, {'lean' if lean else 'full'} headers"
    faster(benchmark, what, lambda: decode_task(ours), "celery", theirs, floor)


def test_encode_an_envelope(benchmark: Any) -> None:
    task = TaskMessage(NAME, ID, ARGS)
    headers, body = encode_task_headers(task), encode_task_body(task)
    message = Message(body, headers=headers, routing_key="celery", correlation_id=ID, reply_to=REPLY_TO)
    with Connection("memory://") as connection:
        channel = connection.channel()

        def theirs() -> object:
            properties = {"correlation_id": ID, "reply_to": REPLY_TO, "delivery_mode": 2}
            prepared = channel.prepare_message(
                body.decode(), 0, "application/json", "utf-8", dict(headers), properties
            )
            channel._inplace_augment_message(prepared, "", "celery")
            return kombu_json.dumps(prepared)

        what = "message to Redis envelope"
        faster(benchmark, what, lambda: encode_envelope(message, ID), "kombu", theirs, 12)


def test_decode_an_envelope(benchmark: Any) -> None:
    task = TaskMessage(NAME, ID, ARGS)
    message = Message(
        encode_task_body(task), headers=encode_task_headers(task), routing_key="celery", reply_to=REPLY_TO
    )
    envelope = encode_envelope(message, ID)
    with Connection("memory://") as connection:
        channel = connection.channel()
        faster(
            benchmark,
            "Redis envelope to delivery",
            lambda: decode_envelope(envelope),
            "kombu",
            lambda: VirtualMessage(kombu_json.loads(envelope), channel=channel),
            5.5,
        )


@pytest.mark.parametrize(("value", "floor"), [([list(ARGS), {}, {}], 8), (ROWS, 2.2)], ids=["small", "rows"])
def test_json_both_ways(benchmark: Any, value: Any, floor: float) -> None:
    text = kombu_json.dumps(value).encode()
    faster(
        benchmark,
        f"JSON both ways, {'200 rows' if value is ROWS else 'small'}",
        lambda: (json_encode(value), json_decode(text)),
        "kombu",
        lambda: (kombu_json.dumps(value), kombu_json.loads(text)),
        floor,
    )


def test_a_value_only_kombu_can_write_costs_little_more_than_kombu(benchmark: Any) -> None:
    value = {"when": 2**70, "rows": ROWS}
    text = kombu_json.dumps(value).encode()
    faster(
        benchmark,
        "JSON both ways, only kombu can write it",
        lambda: (json_encode(value), json_decode(text)),
        "kombu",
        lambda: (kombu_json.dumps(value), kombu_json.loads(text)),
        0.6,
    )
