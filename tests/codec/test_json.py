"""kombu's JSON dialect, case by case; kombu is the oracle."""

from __future__ import annotations

import math
import sys
import uuid
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any

import orjson
import pytest
from kombu.utils import json as kombu_json

from engine.codec import json_decode, json_encode
from engine.errors import DecodeError, EncodeError
from tests.codec.same_value import same_value

Point = namedtuple("Point", "x y")


class Text(str):
    __slots__ = ()


class Whole(int):
    pass


class Mapping(dict):
    def items(self) -> Any:
        return [("from_items", 1)]


class Colour(IntEnum):
    RED = 1


class Hooked:
    def __json__(self) -> dict[str, int]:
        return {"hooked": 1}


VALUES = [
    None, True, False, 0, -1, 2**63 - 1, -(2**63), 2**64 - 1, 2**64, -(2**63) - 1, 10**40, 0.1, -0.0, 1e308,
    5e-324, math.nan, math.inf, -math.inf, "", "ascii", "héllo", "日本", "😀", "\ud800", "a\udfffb",
    '"\\/\b\f\n\r\t\x00\x7f', [], {}, (), [1, [2, [3]]], (1, (2,)), {"a": {"b": None}},
    {2: "int key", None: 0, True: 1, 1.5: 2}, {"": ""},
    {"__type__": "x"}, {"__type__": "bytes", "__value__": "abc", "more": 1}, ["__type__", "__value__"],
    uuid.UUID(int=7), Decimal("1.10"), b"bytes", b"\xff\x00", datetime(2024, 1, 2, 3, 4, 5, 6),  # noqa: DTZ001  naive is meant
    datetime(2024, 1, 2, tzinfo=timezone(timedelta(hours=2))), date(2024, 1, 2), time(1, 2, 3), Point(1, 2),
    Text("sub"), Whole(3), Mapping(a=1), OrderedDict(b=1, a=2), Colour.RED, Hooked(),
    [Hooked(), {"d": date(2024, 1, 2)}],
    {"big": 2**70, "nested": [uuid.UUID(int=1), (math.nan,)]},
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{type(value).__name__}-{str(value)[:12]!a}")
def test_encodes_to_what_kombu_means_and_reads_what_kombu_writes(value: Any) -> None:
    text = kombu_json.dumps(value)
    meant = kombu_json.loads(text)
    assert same_value(kombu_json.loads(json_encode(value)), meant)
    assert same_value(json_decode(text.encode()), meant)
    assert same_value(json_decode(json_encode(value)), meant)


@dataclass
class Record:
    field: int = 1


class Plain(Enum):
    A = "a"


@pytest.mark.parametrize(
    "value", [Record(), Plain.A, object(), {1, 2}, {(1, 2): 3}, [timedelta(1)], b"".join]
)
def test_what_kombu_refuses_is_an_encode_error(value: Any) -> None:
    with pytest.raises(TypeError):
        kombu_json.dumps(value)
    with pytest.raises(EncodeError, match="TypeError"):
        json_encode(value)


def test_plain_values_take_the_fast_path() -> None:
    value = {"a": [1, 2.5, "x", None, True, (1,)], "b": {"c": {}}}
    assert json_encode(value) == orjson.dumps(value)


@pytest.mark.parametrize(
    "text",
    [
        "NaN", "-Infinity", "[Infinity]", "-0", "-0.0", "1e400", "18446744073709551615",
        "18446744073709551616",
        "-9223372036854775809", "123456789012345678", "1234567890123456789", "[0.1234567890123456789012]",
        '{"a":1,"b":2,"a":3}', r'"\ud800"', r'"\ud83d\ude00"', r'"\ud800\u0041"', r'"\u0041"', r'"\/\""',
        r'{"\u005f_type__":"bytes","__value__":"x"}', r'{"__type_\u005F":"bytes","__value__":"x"}',
        '{"__type__":"bytes","__value__":"x"}', '{"__value__":"x","__type__":"bytes"}',
        '[{"__type__":"uuid","__value__":{"hex":"00000000000000000000000000000007"}}]',
        '"123456789012345678901234567890"', '"a\\"b123456789012345678901"', '"\\\\"',
        '"\\\\", 1', ' \t\r\n[ 1 , 2 ] ',
        '{"__type__"', '"__type__', '"\\', '"\\u00', '"\\u00"', "", " ", "[", "]", "[1,]", "{]",
        "01", "+1", ".5", "1.", "nul", "'a'", "[1] 2", '"\t"', '"\n"', '"\x7f"', "\ufeff[]", "﻿", "//c",
        "[1 2]",        '{"a" 1}', "{1:2}",
        '{"__type__":"nope","__value__":1}', '{"__type__":["x"],"__value__":1}',
        '{"__type__":"datetime","__value__":5}',
        '{"__type__":"decimal","__value__":"x"}', '{"__type__":"uuid","__value__":{"a":1}}',
        '{"__type__":"base64","__value__":"////"}', '{"__type__":null,"__value__":1}',
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", [bytes, str, bytearray, memoryview])
def test_raw_text_is_read_as_kombu_reads_it(text: str, kind: type) -> None:
    data = text if kind is str else kind(text.encode())
    try:
        meant = kombu_json.loads(data)
    except Exception:
        with pytest.raises(DecodeError):
            json_decode(data)
    else:
        assert same_value(json_decode(data), meant)


@pytest.mark.parametrize(
    "data", [b"\xff", b'"\xc3"', b'"\xed\xa0\x80"', b'["\x80"]', b"\xef\xbb\xbf[]", b"\xff\xfe[\x00"]
)
def test_bytes_that_are_no_utf8_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        kombu_json.loads(data)
    with pytest.raises(DecodeError):
        json_decode(data)


def test_text_with_a_lone_surrogate_written_as_itself() -> None:
    assert json_decode('["\ud800"]') == kombu_json.loads('["\ud800"]') == ["\ud800"]
    with pytest.raises(DecodeError, match="512"):
        json_decode("[" * 600 + '"\ud800"')


@pytest.mark.parametrize("data", [None, 5, [], {"a": 1}])
def test_only_bytes_and_text_are_json(data: Any) -> None:
    with pytest.raises(TypeError, match="JSON is bytes or str"):
        json_decode(data)


@pytest.mark.parametrize("depth", [1, 249, 250, 251, 253, 254, 255, 256, 500, 512])
@pytest.mark.parametrize(
    "wrap", [lambda v: [v], lambda v: (v,), lambda v: {"k": v}], ids=["list", "tuple", "dict"]
)
def test_nesting_up_to_the_bound(depth: int, wrap: Any) -> None:
    value: Any = wrap(1)
    for _ in range(depth - 1):
        value = wrap(value)
    text = json_encode(value)
    assert json_decode(text) == kombu_json.loads(kombu_json.dumps(value))


@pytest.mark.parametrize("depth", [513, 5_000, 200_000])
def test_nesting_bombs_are_refused_both_ways(depth: int) -> None:
    for bomb in (b"[" * depth, b"[" * depth + b"]" * depth, b'{"a":' * depth, b'[{"__type__":' * depth):
        with pytest.raises(DecodeError, match="512"):
            json_decode(bomb)
    deep: Any = []
    for _ in range(depth):
        deep = [deep]
    with pytest.raises(EncodeError, match="512"):
        json_encode(deep)
    with pytest.raises(EncodeError, match="512"):
        json_encode([uuid.UUID(int=1), deep])  # kombu's way
    while deep:
        deep = deep.pop()  # a deep list is also deep to free


def test_brackets_in_strings_are_not_nesting() -> None:
    assert json_decode(json_encode("[{" * 1000)) == "[{" * 1000


def test_a_value_that_holds_itself() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(EncodeError, match="refers to itself"):
        json_encode(loop)
    knot: dict[Any, Any] = {"u": uuid.UUID(int=1)}
    knot["self"] = knot
    with pytest.raises(EncodeError):
        json_encode(knot)


@pytest.mark.skipif(not hasattr(sys, "get_int_max_str_digits"), reason="this Python has no bound on digits")
def test_more_digits_than_python_reads() -> None:
    limit = sys.get_int_max_str_digits() + 1
    with pytest.raises(DecodeError, match="digits"):
        json_decode(b"1" * limit)
    with pytest.raises(EncodeError, match="digits"):
        json_encode(10**limit)


def test_errors_do_not_quote_whole_values() -> None:
    with pytest.raises(DecodeError) as caught:
        json_decode('{"__type__":"nope","__value__":"' + "secret" * 100 + '"}')
    assert "secret" not in str(caught.value)
