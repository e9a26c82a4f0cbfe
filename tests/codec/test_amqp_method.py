"""Method frames: the bytes of each, both ways, with py-amqp's argument formats as the oracle."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from amqp.serialization import dumps, loads

from engine.codec import HEARTBEAT_FRAME, PROTOCOL_HEADER, FrameDecoder, Method, encode_method
from engine.errors import EncodeError
from tests.codec.amqp_oracle import frame

ARGUMENTS = {"a": 1, "b": [True, None]}
VALUES = {
    "b": True,
    "o": 9,
    "B": 0xFFFE,
    "l": 0xFFFFFFFE,
    "L": 2**64 - 2,
    "s": "short",
    "S": "long",
    "F": ARGUMENTS,
}

#: class, method, py-amqp's letters for it (spec.py, connection.py, channel.py)
METHODS = [
    (10, 10, "ooFSS"),
    (10, 11, "FsSs"),
    (10, 20, "S"),
    (10, 21, "S"),
    (10, 30, "BlB"),
    (10, 31, "BlB"),
    (10, 40, "ssb"),
    (10, 41, "s"),
    (10, 50, "BsBB"),
    (10, 51, ""),
    (10, 60, "s"),
    (10, 61, ""),
    (10, 70, "Ss"),
    (10, 71, ""),
    (20, 10, "s"),
    (20, 11, "S"),
    (20, 20, "b"),
    (20, 21, "b"),
    (20, 40, "BsBB"),
    (20, 41, ""),
    (40, 10, "BssbbbbbF"),
    (40, 11, ""),
    (40, 20, "Bsbb"),
    (40, 21, ""),
    (40, 30, "BsssbF"),
    (40, 31, ""),
    (40, 40, "BsssbF"),
    (40, 51, ""),
    (50, 10, "BsbbbbbF"),
    (50, 11, "sll"),
    (50, 20, "BsssbF"),
    (50, 21, ""),
    (50, 30, "Bsb"),
    (50, 31, "l"),
    (50, 40, "Bsbbb"),
    (50, 41, "l"),
    (50, 50, "BsssF"),
    (50, 51, ""),
    (60, 10, "lBb"),
    (60, 11, ""),
    (60, 20, "BssbbbbF"),
    (60, 21, "s"),
    (60, 30, "sb"),
    (60, 31, "s"),
    (60, 70, "Bsb"),
    (60, 72, "s"),
    (60, 80, "Lb"),
    (60, 90, "Lb"),
    (60, 100, "b"),
    (60, 110, "b"),
    (60, 111, ""),
    (60, 120, "Lbb"),
    (85, 10, "b"),
    (85, 11, ""),
]

LITERALS: list[tuple[Method, bytes]] = [
    (Method(0, 10, 31, (2047, 131072, 60)), b"\x01\0\0\0\0\0\x0c\0\x0a\0\x1f\x07\xff\0\x02\0\0\0\x3c\xce"),
    (Method(0, 10, 40, ("/", "", False)), b"\x01\0\0\0\0\0\x08\0\x0a\0\x28\x01/\0\0\xce"),
    (Method(0, 10, 51, ()), b"\x01\0\0\0\0\0\x04\0\x0a\0\x33\xce"),
    (Method(1, 20, 10, ("",)), b"\x01\0\x01\0\0\0\x05\0\x14\0\x0a\0\xce"),
    (
        Method(1, 50, 10, (0, "q", False, True, False, True, False, {})),
        b"\x01\0\x01\0\0\0\x0d\0\x32\0\x0a\0\0\x01q\x0a\0\0\0\0\xce",
    ),
    (Method(1, 50, 11, ("q", 5, 2)), b"\x01\0\x01\0\0\0\x0e\0\x32\0\x0b\x01q\0\0\0\x05\0\0\0\x02\xce"),
    (Method(1, 60, 10, (0, 16, False)), b"\x01\0\x01\0\0\0\x0b\0\x3c\0\x0a\0\0\0\0\0\x10\0\xce"),
    (Method(65535, 60, 80, (7, True)), b"\x01\xff\xff\0\0\0\x0d\0\x3c\0\x50\0\0\0\0\0\0\0\x07\x01\xce"),
    (Method(1, 60, 120, (7, True, True)), b"\x01\0\x01\0\0\0\x0d\0\x3c\0\x78\0\0\0\0\0\0\0\x07\x03\xce"),
    (Method(1, 85, 10, (False,)), b"\x01\0\x01\0\0\0\x05\0\x55\0\x0a\0\xce"),
]


def values_for(letters: str) -> tuple[Any, ...]:
    """Fitting values, bits on and off in turn."""
    return tuple(index % 2 == 0 if letter == "b" else VALUES[letter] for index, letter in enumerate(letters))


@pytest.mark.parametrize(("method", "written"), LITERALS, ids=repr)
def test_literals_both_ways(method: Method, written: bytes) -> None:
    assert encode_method(method.channel, method.class_id, method.method_id, method.args) == written
    assert FrameDecoder().feed(written) == [method]


@pytest.mark.parametrize(("class_id", "method_id", "letters"), METHODS)
def test_py_amqp_writes_and_reads_the_same(class_id: int, method_id: int, letters: str) -> None:
    channel = 0 if class_id == 10 else 3
    args = values_for(letters)
    written = encode_method(channel, class_id, method_id, args)
    payload = dumps(letters, args)
    assert written == frame(1, channel, struct.pack(">HH", class_id, method_id) + payload)
    assert tuple(loads(letters, payload, 0)[0]) == args
    assert FrameDecoder().feed(written) == [Method(channel, class_id, method_id, args)]


def test_protocol_header_and_heartbeat_are_the_specifications() -> None:
    assert PROTOCOL_HEADER == b"AMQP\x00\x00\x09\x01"
    assert frame(8, 0, b"") == HEARTBEAT_FRAME


def test_a_long_string_may_be_bytes() -> None:
    response = b"\x00guest\x00guest"
    as_bytes = encode_method(0, 10, 11, ({}, "PLAIN", response, "en_US"))
    assert as_bytes == encode_method(0, 10, 11, ({}, "PLAIN", response.decode(), "en_US"))


def test_a_challenge_of_any_bytes_can_be_sent_back_exactly() -> None:
    challenge = bytes(range(256))
    payload = struct.pack(">HHI", 10, 20, len(challenge)) + challenge
    (method,) = FrameDecoder().feed(frame(1, 0, payload))
    assert isinstance(method, Method)
    assert encode_method(0, 10, 20, method.args) == frame(1, 0, payload)


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (
            (1, 50, 10, ("q",)),
            r"queue.declare takes 8 arguments \(reserved_1, queue, passive, .*\), 1 were given",
        ),
        ((1, 60, 11, (1,)), r"basic.qos-ok takes 0 arguments"),
        ((1, 60, 40, (0, "", "", False, False)), "no AMQP method 60.40 without content"),
        ((1, 99, 1, ()), "no AMQP method 99.1"),
        ((1, 60, 80, (-1, False)), "basic.ack: delivery_tag must lie between"),
        ((1, 60, 80, (2**64, False)), "basic.ack: delivery_tag must lie between"),
        ((1, 60, 10, (0, 65536, False)), "basic.qos: prefetch_count must lie between 0 and 65535, not 65536"),
        ((1, 50, 30, (0, "q" * 256, False)), "queue.purge: queue is 256 bytes long; AMQP allows at most 255"),
        ((1, 50, 30, (0, None, False)), "queue.purge: queue must be a str, not NoneType"),
        ((0, 10, 21, (5,)), "connection.secure-ok: response must be a str or bytes, not int"),
        ((65536, 60, 11), "channel must lie between"),
        ((1, -1, 0), "class id must lie between"),
        ((1, 60, 65536), "method id must lie between"),
    ],
    ids=repr,
)
def test_what_does_not_fit_is_refused_by_name(call: tuple[Any, ...], why: str) -> None:
    with pytest.raises(EncodeError, match=why):
        encode_method(*call)


def test_a_methods_repr_names_it_and_hides_credentials() -> None:
    assert repr(Method(1, 60, 80, (7, True))) == "<Method basic.ack channel=1 args=(7, True)>"
    assert repr(Method(1, 99, 1)) == "<Method 99.1 channel=1 args=()>"
    assert "hunter2" not in repr(Method(0, 10, 11, ({}, "PLAIN", "\0guest\0hunter2", "en_US")))
    assert "hunter2" not in repr(Method(0, 10, 70, ("hunter2", "why")))
