"""The task half of the codec beside celery and kombu, timed in the same run; each ratio has a floor.

Run with ``python -m pytest benchmarks/test_codec_task.py``. The floors stand well under what was measured,
so that a busy machine does not fail them.
celery is measured at its best: `argsrepr` and `origin` are given, not computed.
"""

from __future__ import annotations

import timeit
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery
from celery.worker.request import Request
from kombu import Connection
from kombu.message import Message as KombuMessage
from kombu.transport.virtual import Message as VirtualMessage
from kombu.utils import json as kombu_json

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

ID = "d0c9a7f2-4c0c-4a6c-9b4e-0f8f0a1b2c3d"
REPLY_TO = "6f1c2a34-0b1d-3e5f-8a7b-9c0d1e2f3a4b"
NAME = "proj.tasks.add"
ARGS = (2, 3)
ROWS = [{"id": row, "name": f"customer {row}", "price": row * 1.5, "tags": ["a", "b"]} for row in range(200)]

app = Celery("bench", set_as_current=False, broker="memory://")
app.finalize()


@app.task(name=NAME)
def add(*numbers: int) -> int:
    return sum(numbers)


def faster(
    benchmark: Any, ours: Callable[[], object], theirs: Callable[[], object], floor: float, loops: int = 2000
) -> None:
    """Ours must be ``floor`` times as fast: timed in turns, best against best."""
    benchmark(ours)
    timers = timeit.Timer(ours), timeit.Timer(theirs)
    turns = [[timer.timeit(loops) / loops * 1e6 for timer in timers] for _ in range(9)]
    ours_us, theirs_us = map(min, zip(*turns, strict=True))
    benchmark.extra_info.update(ours_us=round(ours_us, 3), theirs_us=round(theirs_us, 3))
    print(f"{ours_us:.2f} µs beside {theirs_us:.2f} µs")
    assert theirs_us / ours_us > floor, f"only {theirs_us / ours_us:.1f} times as fast"


def delivery(headers: dict[str, Any], body: bytes) -> Delivery:
    return Delivery(
        body,
        content_type="application/json",
        content_encoding="utf-8",
        headers=headers,
        properties={"correlation_id": ID, "reply_to": REPLY_TO},
    )


@pytest.mark.parametrize("lean", [True, False], ids=["lean", "full"])
def test_encode_a_task(benchmark: Any, lean: bool) -> None:
    def ours() -> object:
        task = TaskMessage(NAME, ID, ARGS, argsrepr="(2, 3)", kwargsrepr="{}", origin="gen1@host")
        return encode_task_headers(task, lean), encode_task_body(task)

    def theirs() -> object:
        message = app.amqp.as_task_v2(
            ID, NAME, ARGS, None, argsrepr="(2, 3)", kwargsrepr="{}", origin="gen1@host"
        )
        return message.headers, kombu_json.dumps(message.body).encode()

    faster(benchmark, ours, theirs, floor=4)


@pytest.mark.parametrize("lean", [True, False], ids=["lean", "full"])
def test_decode_a_task(benchmark: Any, lean: bool) -> None:
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

    faster(benchmark, lambda: decode_task(ours), theirs, floor=5)


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

        faster(benchmark, lambda: encode_envelope(message, ID), theirs, floor=6)


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
            lambda: decode_envelope(envelope),
            lambda: VirtualMessage(kombu_json.loads(envelope), channel=channel),
            floor=2.5,
        )


@pytest.mark.parametrize("value", [[list(ARGS), {}, {}], ROWS], ids=["small", "rows"])
def test_json_both_ways(benchmark: Any, value: Any) -> None:
    text = kombu_json.dumps(value).encode()
    faster(
        benchmark,
        lambda: (json_encode(value), json_decode(text)),
        lambda: (kombu_json.dumps(value), kombu_json.loads(text)),
        floor=2,
        loops=200,
    )


def test_a_value_only_kombu_can_write_costs_little_more_than_kombu(benchmark: Any) -> None:
    value = {"when": 2**70, "rows": ROWS}
    text = kombu_json.dumps(value).encode()
    faster(
        benchmark,
        lambda: (json_encode(value), json_decode(text)),
        lambda: (kombu_json.dumps(value), kombu_json.loads(text)),
        floor=0.5,
        loops=50,
    )
