"""Field tables: every type as bytes, both ways; py-amqp as the oracle; what cannot be written."""

from __future__ import annotations

import datetime
import enum
import math
import struct
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
from amqp.serialization import dumps, loads
from hypothesis import given
from hypothesis import strategies as st

from engine.codec import decode_table, encode_table
from engine.errors import DecodeError, EncodeError
from tests.codec.amqp_values import naive_utc, shown, tables, tables_for_amqp


class Color(enum.IntEnum):
    RED = 7


class Name(str):
    __slots__ = ()


def table(item: bytes) -> bytes:
    """A table whose only key ``k`` holds the item."""
    return struct.pack(">I", len(item) + 2) + b"\x01k" + item


BOTH_WAYS: list[tuple[Any, bytes]] = [
    (None, b"V"),
    (True, b"t\x01"),
    (False, b"t\x00"),
    (0, b"I\x00\x00\x00\x00"),
    (-1, b"I\xff\xff\xff\xff"),
    (2**31 - 1, b"I\x7f\xff\xff\xff"),
    (-(2**31), b"I\x80\x00\x00\x00"),
    (2**31, b"l\x00\x00\x00\x00\x80\x00\x00\x00"),
    (-(2**31) - 1, b"l\xff\xff\xff\xff\x7f\xff\xff\xff"),
    (2**63 - 1, b"l\x7f\xff\xff\xff\xff\xff\xff\xff"),
    (-(2**63), b"l\x80\x00\x00\x00\x00\x00\x00\x00"),
    (1.5, b"d\x3f\xf8\x00\x00\x00\x00\x00\x00"),
    (-math.inf, b"d\xff\xf0\x00\x00\x00\x00\x00\x00"),
    ("", b"S\x00\x00\x00\x00"),
    ("é", b"S\x00\x00\x00\x02\xc3\xa9"),
    ("\udcff", b"S\x00\x00\x00\x01\xff"),
    (b"\x00\xff", b"x\x00\x00\x00\x02\x00\xff"),
    (naive_utc(1970, 1, 1), b"T\x00\x00\x00\x00\x00\x00\x00\x00"),
    (naive_utc(9999, 12, 31, 23, 59, 59), b"T\x00\x00\x00\x3a\xff\xf4\x41\x7f"),
    (Decimal("1.25"), b"D\x02\x00\x00\x00\x7d"),
    (Decimal("-3"), b"D\x00\xff\xff\xff\xfd"),
    (Decimal("0.00"), b"D\x02\x00\x00\x00\x00"),
    ({}, b"F\x00\x00\x00\x00"),
    ({"a": None}, b"F\x00\x00\x00\x03\x01aV"),
    ([], b"A\x00\x00\x00\x00"),
    ([True, [None]], b"A\x00\x00\x00\x08t\x01A\x00\x00\x00\x01V"),
]
READ_ONLY: list[tuple[Any, bytes]] = [
    (-2, b"b\xfe"),
    (254, b"B\xfe"),
    (-2, b"s\xff\xfe"),
    (-2, b"U\xff\xfe"),
    (65534, b"u\xff\xfe"),
    (0xFFFFFFFE, b"i\xff\xff\xff\xfe"),
    (-2, b"L\xff\xff\xff\xff\xff\xff\xff\xfe"),
    (True, b"t\x07"),
    (0.5, b"f\x3f\x00\x00\x00"),
    (2**64 - 1, b"T\xff\xff\xff\xff\xff\xff\xff\xff"),
    (253402300800, b"T\x00\x00\x00\x3a\xff\xf4\x41\x80"),
    ("a\udcffb", b"S\x00\x00\x00\x03a\xffb"),
]
WRITE_ONLY: list[tuple[Any, bytes]] = [
    ((1,), b"A\x00\x00\x00\x05I\x00\x00\x00\x01"),
    (bytearray(b"a"), b"x\x00\x00\x00\x01a"),
    (memoryview(b"a"), b"x\x00\x00\x00\x01a"),
    (MappingProxyType({"a": None}), b"F\x00\x00\x00\x03\x01aV"),
    (Color.RED, b"I\x00\x00\x00\x07"),
    (Name("n"), b"S\x00\x00\x00\x01n"),
    (Decimal("1E+3"), b"D\x00\x00\x00\x03\xe8"),
    (
        datetime.datetime(1970, 1, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=1))),
        b"T\x00\x00\x00\x00\x00\x00\x00\x00",
    ),
    ("\ud800", b"S\x00\x00\x00\x03\xed\xa0\x80"),
]


@pytest.mark.parametrize(("value", "item"), BOTH_WAYS + READ_ONLY, ids=shown)
def test_every_type_is_read(value: Any, item: bytes) -> None:
    read = decode_table(table(item))["k"]
    assert read == value
    assert type(read) is type(value)
    assert str(read) == str(value)  # a Decimal keeps its scale


@pytest.mark.parametrize(("value", "item"), BOTH_WAYS + WRITE_ONLY, ids=shown)
def test_every_type_is_written(value: Any, item: bytes) -> None:
    assert encode_table({"k": value}) == table(item)


@pytest.mark.parametrize("data", [b"", b"abc"], ids=shown)
def test_a_buffer_of_any_kind_is_read(data: bytes) -> None:
    written = table(b"x" + struct.pack(">I", len(data)) + data)
    for source in (written, bytearray(written), memoryview(written)):
        assert decode_table(source) == {"k": data}


@given(tables)
def test_round_trip(value: dict[str, Any]) -> None:
    assert decode_table(encode_table(value)) == value


@given(tables_for_amqp)
def test_py_amqp_reads_what_is_written(value: dict[str, Any]) -> None:
    written = encode_table(value)
    assert loads("F", written, 0) == ([value], len(written))


@given(tables_for_amqp)
def test_what_py_amqp_writes_is_read(value: dict[str, Any]) -> None:
    assert decode_table(dumps("F", [value])) == value


@given(st.floats())
def test_floats_are_exact(value: float) -> None:
    assert struct.pack(">d", decode_table(encode_table({"k": value}))["k"]) == struct.pack(">d", value)


@given(st.binary(max_size=60))
def test_text_that_is_no_utf8_is_written_back_as_it_came(data: bytes) -> None:
    written = table(b"S" + struct.pack(">I", len(data)) + data)
    assert encode_table(decode_table(written)) == written


def test_names_that_share_a_slot_stay_apart() -> None:
    names = {f"header-{number:05d}": number for number in range(5000)}
    assert decode_table(encode_table(names)) == names
    assert decode_table(encode_table(names)) == names


def test_nesting_is_bounded_both_ways() -> None:
    value: Any = None
    for _ in range(31):
        value = [value]
    deepest = {"k": value}
    assert decode_table(encode_table(deepest)) == deepest
    with pytest.raises(EncodeError, match="deeper than 32"):
        encode_table({"k": [value]})
    item = encode_table(deepest)[6:]
    with pytest.raises(DecodeError, match="deeper than 32"):
        decode_table(table(b"A" + struct.pack(">I", len(item)) + item))


def test_a_list_that_holds_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(EncodeError, match="deeper"):
        encode_table({"k": loop})


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (object(), "'k': a field table cannot hold a value of type object"),
        ({1}, "of type set"),
        (1j, "of type complex"),
        (2**63, "beyond 64 bits"),
        (-(2**63) - 1, "beyond 64 bits"),
        (Decimal("NaN"), "this Decimal"),
        (Decimal("Infinity"), "this Decimal"),
        (Decimal("1E-256"), "this Decimal"),
        (Decimal(2**31), "31 bits"),
        (Decimal("1E+10"), "31 bits"),
        (naive_utc(1969, 12, 31), "before 1970"),
        (datetime.datetime.min.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=5))), "not a time"),
        ({1: 2}, "key must be a str, not int"),
        ({"x" * 256: 1}, "256 bytes long"),
        ({"é" * 128: 1}, "256 bytes long"),
    ],
    ids=shown,
)
def test_what_no_table_can_hold_is_refused_by_name(value: Any, why: str) -> None:
    with pytest.raises(EncodeError, match=why):
        encode_table({"k": value})


@pytest.mark.parametrize("value", [None, [], "text", 1])
def test_a_table_is_made_from_a_mapping(value: Any) -> None:
    with pytest.raises(EncodeError, match="made from a mapping"):
        encode_table(value)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "4 bytes should follow"),
        (b"\x00\x00\x00", "4 bytes should follow"),
        (b"\x00\x00\x00\x01", "1 bytes should follow"),
        (b"\x00\x00\x00\x00x", "1 bytes follow"),
        (table(b""), "1 bytes should follow"),
        (table(b"?"), "unknown type '\\?'"),
        (table(b"\xff"), "unknown type"),
        (b"\xff\xff\xff\xff\x01kV", "4294967295 bytes should follow"),
        (table(b"S\xff\xff\xff\xff"), "4294967295 bytes should follow"),
        (table(b"x\xff\xff\xff\xffab"), "4294967295 bytes should follow"),
        (table(b"F\xff\xff\xff\xff"), "4294967295 bytes should follow"),
        (table(b"A\x00\x00\x00\x02V"), "2 bytes should follow"),
        (b"\x00\x00\x00\x02\x09kV", "9 bytes should follow"),
    ],
    ids=shown,
)
def test_lengths_stay_inside_their_parent(data: bytes, why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        decode_table(data)


def test_a_long_table_grows_its_buffer() -> None:
    value = {f"k{number}": "v" * 1000 for number in range(300)}
    assert decode_table(encode_table(value)) == value
