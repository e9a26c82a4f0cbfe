"""The base64 of kombu's envelopes, by vectors where the processor has them: Python's is the oracle."""

from __future__ import annotations

import base64
import json
import random
import string

import pytest

from engine.codec import Message, decode_envelope, encode_envelope, encode_push
from engine.errors import DecodeError

ALPHABET = frozenset((string.ascii_letters + string.digits + "+/").encode())


def envelope(body: bytes) -> bytes:
    return encode_envelope(Message(body, headers={}, routing_key="queue"), "tag")


@pytest.mark.parametrize("size", [*range(200), 4095, 4096, 100_000, 200_001])
def test_any_size_both_ways(size: int) -> None:
    body = random.Random(size).randbytes(size)
    data = envelope(body)
    assert json.loads(data)["body"] == base64.b64encode(body).decode()
    assert decode_envelope(data).body == body


def test_every_byte_in_every_place_is_judged() -> None:
    body = bytes(range(256))
    data = envelope(body)
    start = data.index(b'"body":"') + len(b'"body":"')
    size = len(base64.b64encode(body))
    for place in range(start, start + size - 2):  # two of padding
        for byte in {*range(0x20, 0x7F)} - {*b'"\\='}:
            changed = bytearray(data)
            changed[place] = byte
            if byte in ALPHABET:
                meant = base64.b64decode(changed[start : start + size])
                assert decode_envelope(bytes(changed)).body == meant
            else:
                with pytest.raises(DecodeError):
                    decode_envelope(bytes(changed))


@pytest.mark.parametrize("size", [0, 1, 1000, 98_303, 100_000, 1_000_000])
def test_a_push_holds_the_envelope_behind_its_size(size: int) -> None:
    message = Message(random.Random(size).randbytes(size), headers={}, routing_key="queue")
    data = encode_envelope(message, "tag")
    assert encode_push(b"head", message, "tag") == b"head$%d\r\n%b\r\n" % (len(data), data)
