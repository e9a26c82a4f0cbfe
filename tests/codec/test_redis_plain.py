"""Envelopes that are read in one pass beside the same envelopes read through JSON, whatever is in them.

The one pass takes bytes; given as text, an envelope is read through `json_decode`, which is the oracle.
"""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.codec import Delivery, Message, TaskMessage, decode_envelope, encode_envelope, encode_task_headers
from engine.errors import DecodeError

TAG = "6c3b2c1e-0000-4000-8000-000000000001"
FULL = Message(
    b"[[1,2],{},{}]",
    headers=encode_task_headers(TaskMessage("proj.add", "i", (1, 2), {}, argsrepr="(1, 2)"), lean=False),
    exchange="e",
    routing_key="celery",
    correlation_id="i",
    reply_to="r",
    priority=3,
)


def seen(data: bytes | str) -> tuple[Any, ...] | str:
    """All of the delivery, types too, or what was wrong."""
    try:
        got = decode_envelope(data)
    except DecodeError as error:
        return str(error)
    assert isinstance(got, Delivery)
    return (
        *(got.tag, got.body, got.exchange, got.routing_key, got.redelivered, got.content_type),
        *(got.content_encoding, repr(got.headers), repr(sorted(got.properties.items(), key=repr))),
        *(got.epoch, got.queue, got.consumer_tag, got.context, got.delivery_count),
    )


def assert_read_alike(data: bytes) -> None:
    assert seen(data) == seen(data.decode())


@pytest.mark.parametrize(
    "envelope",
    [
        encode_envelope(FULL, TAG),
        json.dumps(json.loads(encode_envelope(FULL, TAG))).encode(),
        json.dumps(json.loads(encode_envelope(FULL, TAG)), indent=1, sort_keys=True).encode(),
        encode_envelope(Message(), TAG),
        encode_envelope(Message(b"x" * 10_000, headers={"h" * 300: [[], {}, [{"a": [1]}]]}), TAG),
        b'{"body":"","body":"YQ==","properties":{"delivery_tag":"t","body_encoding":"base64"}}',
        b'{"body":"YQ==","body":5,"properties":{"delivery_tag":"t","body_encoding":"base64"}}',
        b'{"body":"YQ==","headers":null,"properties":{"delivery_tag":"t","body_encoding":"base64"}}',
        b'{"body":"YQ==","headers":{"__type__":"x"},"properties":{"delivery_tag":"t","body_encoding":"base64"}}',
        b'{"body":"YQ==","properties":{"delivery_tag":"t","body_encoding":"base64",'
        b'"priority":3,"priority":null,"delivery_info":{"redelivered":1,"exchange":"e","exchange":"f"}}} ',
        b'{"body":"YQ==","properties":{"delivery_tag":"t","body_encoding":"base64","delivery_info":null}}',
        b'{"body":"YQ==","properties":{"delivery_tag":"t","body_encoding":"base64","delivery_info":{}}}',
        b'{"body":"YQ==","properties":{"delivery_tag":"t","body_encoding":"base64","expiration":1500}}',
        b'{"body":"YQ==","properties":{"delivery_tag":"t","body_encoding":"base64","x":[1,{"y":null}]}}',
    ],
)
def test_forms_that_brokers_hold(envelope: bytes) -> None:
    assert_read_alike(envelope)
    for size in range(0, len(envelope), max(1, len(envelope) // 300)):  # cut off anywhere
        assert_read_alike(envelope[:size])


@pytest.mark.parametrize(
    "value",
    [
        *(
            "0",
            "00",
            "01",
            "-0",
            "-1",
            "1.0",
            "1e2",
            "9" * 18,
            "9" * 19,
            "1.",
            "+1",
            ".5",
            "1 2",
            "NaN",
            "1}",
        ),
        *('"a"', '"\\u0041"', '"\\"', '"é"', '"a\tb"', '"\x7f"', '"', "'a'", "''"),
        *("true", "false", "null", "True", "tru", "nul", "falsey"),
        *("[]", "[1,]", "[,1]", "[1 2]", "[" * 40 + "]" * 40, "{}", '{"a":1,}', "{,}", '{"a"}', '{"a":}'),
        *("{a:1}", '{"":1}', '{"_a":1}', '{"a":1}', '{"a" : [ ] }', "\x00", " ", "\x0b1", "\r\n\t1 "),
    ],
)
@pytest.mark.parametrize("place", ["headers", "header", "property", "priority", "info", "member", "tag"])
def test_any_value_in_any_place(value: str, place: str) -> None:
    headers = {"headers": value, "header": f'{{"h":{value}}}'}.get(place, "{}")
    inner = {"property": f'"p":{value},', "priority": f'"priority":{value},'}.get(place, "")
    inner += f'"delivery_info":{value},' if place == "info" else ""
    tag = value if place == "tag" else '"t"'
    member = f'"m":{value},' if place == "member" else ""
    text = f'{{"body":"YQ==",{member}"headers":{headers},'
    text += f'"properties":{{{inner}"body_encoding":"base64","delivery_tag":{tag}}}}}'
    assert_read_alike(text.encode())


@settings(max_examples=500, deadline=None)
@given(st.randoms(use_true_random=False))
def test_damaged_envelopes(rng: random.Random) -> None:
    data = bytearray(encode_envelope(FULL, TAG))
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data))
        piece = rng.choice([b"", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"0", b" ", b"\x00", b"_"])
        data[at : at + rng.randint(0, 2)] = piece
    assert_read_alike(bytes(data))


def test_bytes_that_are_no_utf_8_are_refused() -> None:
    with pytest.raises(DecodeError):
        decode_envelope(encode_envelope(FULL, TAG).replace(b"proj.add", b"proj\xff"))
