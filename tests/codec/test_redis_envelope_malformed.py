"""Envelopes that are not what they claim, messages that can't be written as one, and the base64 within."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kombu.utils import json as kombu_json

from engine.codec import Delivery, Message, decode_envelope, encode_envelope
from engine.errors import DecodeError, EncodeError

TAG = "6c3b2c1e-0000-4000-8000-000000000001"


def envelope_with(**changes: Any) -> bytes:
    envelope: dict[str, Any] = json.loads(
        encode_envelope(Message(b"abc", routing_key="q", reply_to="r"), TAG)
    )
    properties = envelope["properties"] | changes.pop("properties", {})
    return json.dumps(envelope | {"properties": properties} | changes).encode()


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'"x"', "not a JSON object"),
        (b"[" * 600, "nested deeper"),
        (b"{}", "no properties"),
        (b'{"properties":{}}', "no delivery_tag"),
        (b'{"properties":[]}', "properties is a list, not an object"),
        (envelope_with(body=5), "body is a int, not a string"),
        (envelope_with(body={"a": 1}), "body is a dict, not a string"),
        (envelope_with(body="YWJ"), "no multiple of four"),
        (envelope_with(body="Y$Jj"), "not base64"),
        (envelope_with(body="YW=="), None),
        (envelope_with(body="Y==="), "not base64"),
        (envelope_with(body="===="), "not base64"),
        (envelope_with(body="YQ==YQ=="), "not base64"),
        (envelope_with(body="YQ=a"), "not base64"),
        (envelope_with(body="YWJj\nYWJj"), "no multiple of four"),
        (envelope_with(body="YWé="), "not base64"),
        (envelope_with(body="\ud800", properties={"body_encoding": None}), "lone surrogate"),
        (envelope_with(headers=[]), "headers is a list"),
        (envelope_with(**{"content-type": 5}), "content-type is a int"),
        (envelope_with(**{"content-encoding": []}), "content-encoding is a list"),
        (envelope_with(properties={"body_encoding": "rot13"}), "unknown body_encoding 'rot13'"),
        (envelope_with(properties={"body_encoding": 5}), "body_encoding is a int"),
        (envelope_with(properties={"delivery_tag": 5}), "delivery_tag is a int"),
        (envelope_with(properties={"delivery_info": "x"}), "delivery_info is a str"),
        (envelope_with(properties={"delivery_info": {"exchange": 5}}), "exchange is a int"),
        (envelope_with(properties={"delivery_info": {"routing_key": []}}), "routing_key is a list"),
        (envelope_with(properties={"priority": "high"}), "priority is a str, not an integer"),
        (envelope_with(properties={"correlation_id": 5}), "correlation_id is a int, not a string"),
    ],
)
def test_bad_envelopes(data: bytes, complaint: str | None) -> None:
    if complaint is None:
        decode_envelope(data)
        return
    with pytest.raises(DecodeError, match=complaint):
        decode_envelope(data)


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        (Message("text"), "body is bytes, not str"),
        (Message(b"", headers={"k": object()}), "not JSON serializable"),
        (Message(b"", headers=[("k", 1)]), "headers are a dict, not list"),
        (Message(b"", correlation_id=5), "is a int, not a string"),
        (Message(b"", routing_key="\ud800"), "lone surrogate"),
        (Message(b"", priority="1"), "priority is '1', not an integer"),
        (Message(b"", delivery_mode=2**70), "delivery_mode is"),
    ],
)  # type: ignore[arg-type]
def test_messages_that_can_not_be_written(message: Message, complaint: str) -> None:
    with pytest.raises(EncodeError, match=complaint):
        encode_envelope(message, TAG)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_base64_both_ways_as_pythons(body: bytes) -> None:
    envelope = json.loads(encode_envelope(Message(body), TAG))
    assert envelope["body"] == base64.b64encode(body).decode()
    assert decode_envelope(json.dumps(envelope)).body == body


values = st.recursive(
    st.none() | st.integers() | st.text() | st.floats(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)
)
parts = st.sampled_from(["body", "content-type", "content-encoding", "headers", "properties"])
properties = st.sampled_from(
    ["delivery_tag", "delivery_info", "body_encoding", "priority", "reply_to", "timestamp"]
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(parts, values), st.dictionaries(properties, values))
def test_any_shape_gives_a_delivery_or_a_decode_error(
    envelope: dict[str, Any], inner: dict[str, Any]
) -> None:
    try:
        got = decode_envelope(kombu_json.dumps({"properties": {"delivery_tag": "t", **inner}, **envelope}))
    except DecodeError:
        return
    assert isinstance(got, Delivery)
    assert isinstance(got.tag, str)
    assert isinstance(got.body, bytes)
    assert isinstance(got.headers, dict)
