"""JSON with long strings in it, which is read and written without orjson: orjson is the oracle."""

from __future__ import annotations

import random
import string
from typing import Any

import orjson
import pytest
from kombu.utils import json as kombu_json

from engine.codec import json_decode, json_encode
from engine.errors import DecodeError
from tests.codec.same_value import same_value

LONG = 5_000  # characters: from here on a text is read so
LONG_TO_WRITE = 1 << 20
ASCII = "".join(map(chr, range(0x80)))

PARTS = [
    "x" * 64, "x" * 63, "\n", '"', "\\", "\t\r\b\f", "\x00\x1f", "\x7f", "/", "a line\n", "é", "日本", "😀",
]  # fmt: skip


def long_text(seed: int, size: int, parts: list[str]) -> str:
    return "".join(random.Random(seed).choices(parts, k=size))[:size]


@pytest.mark.parametrize("size", [4095, 4096, 4097, 4159, 4160, 100_000])
@pytest.mark.parametrize(
    "around", ["%s", "[%s]", '[[2, -2.5e3, %s], {"key": %s}, {}]', ' { "a" : %s , "b" : [ ] } ']
)
def test_read_as_by_orjson(size: int, around: str) -> None:
    for text in ("x" * size, ("x" * 79 + "\n") * (size // 80 + 1), "é" * size, ASCII * (size // 128 + 1)):
        data = around.replace("%s", orjson.dumps(text).decode()).encode()
        assert same_value(json_decode(data), orjson.loads(data))
        assert same_value(json_decode(data.decode()), orjson.loads(data))


@pytest.mark.parametrize("seed", range(30))
def test_any_mixture_both_ways(seed: int) -> None:
    value = [[1, None, long_text(seed, LONG, PARTS)], {"a": True, "b": long_text(-seed, LONG, PARTS[:8])}, {}]
    data = orjson.dumps(value)
    assert json_encode(value) == data
    assert json_decode(data) == value
    assert json_decode(kombu_json.dumps(value)) == value


@pytest.mark.parametrize("parts", [["x" * 64], [*PARTS[:2], "\n"], PARTS[:10], PARTS, list(ASCII)])
def test_written_as_by_orjson(parts: list[str]) -> None:
    text = long_text(1, LONG_TO_WRITE, parts)
    for value in (
        text,
        [[2, 2, text], {}, {}],
        {"a": [text, 1.5, -3, None, True, "é"], 'quoted "name"': (), "more": (text,)},
    ):
        assert json_encode(value) == orjson.dumps(value)


def test_what_orjson_refuses_is_kombus() -> None:
    text = "x" * LONG_TO_WRITE
    for value in ([text, 2**70], [text, "\ud800"], {"k": (text, float("inf"))}):
        assert json_decode(json_encode(value)) == kombu_json.loads(kombu_json.dumps(value))


def test_many_values_beside_a_long_one_are_written_and_read() -> None:
    value: list[Any] = ["x" * LONG_TO_WRITE, *range(1000), {"a" * LONG_TO_WRITE: 1}]
    assert json_encode(value) == orjson.dumps(value)
    assert json_decode(orjson.dumps(value)) == value


@pytest.mark.parametrize(
    "broken",
    [
        "[%s", "%s]", "[%s,]", "[,%s]", '{"a":%s,}', "{%s}", '{"a" %s}', "[%s %s]", "[%s]]", "[1 2,%s]",
        "[01,%s]", "[+1,%s]", "[tru,%s]", "[1.,%s]", "[%s]x", '[%s,"', "[%s,]}", "[{%s]", "[--1,%s]",
    ],
)  # fmt: skip
def test_broken_text_is_refused(broken: str) -> None:
    data = broken.replace("%s", '"' + "x" * LONG + '"').encode()
    with pytest.raises(DecodeError):
        json_decode(data)


@pytest.mark.parametrize("inside", ["\x00", "\x1f", "\n", "\\x", "\\u12", "\\", "\\ud800"])
def test_broken_strings_are_judged_as_by_kombu(inside: str) -> None:
    data = '["' + "x" * LONG + inside + '"]'
    try:
        meant = kombu_json.loads(data)
    except ValueError:
        with pytest.raises(DecodeError):
            json_decode(data)
    else:
        assert json_decode(data) == meant


@pytest.mark.parametrize("bad", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf8\x88\x80\x80\x80"])
def test_what_is_not_utf8_is_refused(bad: bytes) -> None:
    for data in (b'["%b%b"]' % (b"x" * LONG, bad), b'["%b\\n%b"]' % (b"x" * LONG, bad)):
        with pytest.raises(DecodeError):
            json_decode(data)


def test_wrappers_beside_long_strings_are_kombus() -> None:
    value = [{"__type__": "decimal", "__value__": "1.10"}, "x" * LONG]
    assert same_value(json_decode(orjson.dumps(value)), kombu_json.loads(orjson.dumps(value)))


def test_depth_is_bounded() -> None:
    for depth, fits in ((500, True), (513, False)):
        data = b"[" * depth + b'"%b"' % (b"x" * LONG) + b"]" * depth
        if fits:
            assert str(json_decode(data)).count("[") == depth
        else:
            with pytest.raises(DecodeError, match="nested deeper"):
                json_decode(data)


def test_mutated_text_is_read_alike() -> None:
    chosen = random.Random(7)
    whole = orjson.dumps([[1, "x" * LONG], {"a": "line\n" * LONG, "b": [None, 2.5]}, {}])
    for _ in range(500):
        data = bytearray(whole)
        for _ in range(chosen.randint(1, 3)):
            place = chosen.choice(
                (chosen.randrange(len(data)), chosen.randrange(20), -1 - chosen.randrange(40))
            )
            data[place] = ord(chosen.choice(string.printable + "\x00\xe9"))
        try:
            meant = orjson.loads(bytes(data))
        except ValueError:
            continue  # what kombu makes of it is another test's
        assert same_value(json_decode(bytes(data)), meant)
