"""Differential tests of the JSON codec against kombu: generated values, and JSON text broken at random."""

from __future__ import annotations

import string
from datetime import timezone
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from kombu.utils import json as kombu_json

from engine.codec import json_decode, json_encode
from engine.errors import DecodeError
from tests.codec.same_value import same_value

texts = st.text(st.characters()) | st.sampled_from(["__type__", "__value__", "\ud800", "a\x00b", "\u2028"])
integers = st.integers() | st.integers(2**63 - 3, 2**64 + 3) | st.integers(-(2**63) - 3, -(2**63) + 3)
plain = st.none() | st.booleans() | integers | st.floats() | texts
typed = (
    st.uuids()
    | st.decimals(allow_nan=False)
    | st.binary()
    | st.datetimes(timezones=st.none() | st.just(timezone.utc))
    | st.dates()
    | st.times()
)
#: parts of strings longer than what is looked at byte by byte, and what must not be passed over in them
long_parts = [
    *("x" * size for size in (29, 31, 33, 200)),
    "\u00e9" * 20,
    r"\u005f",
    r"\"",
    r"\\",
    "\\",
    '"',
    ": 1, ",
]
keys = texts | st.integers() | st.floats() | st.booleans() | st.none()


def nested(leaves: st.SearchStrategy[Any], key: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(key, inner, max_size=4)
        ),
        max_leaves=12,
    )


def agree(data: bytes | str) -> None:
    """Both read the same, or both refuse."""
    try:
        meant = kombu_json.loads(data)
    except Exception:
        try:
            value = json_decode(data)
        except DecodeError:
            return
        raise AssertionError(f"kombu refuses what was read as {value!r}") from None
    assert same_value(json_decode(data), meant)


@settings(max_examples=300, deadline=None)
@given(nested(plain | typed, keys) | nested(plain, texts))
def test_both_ways_as_kombu(value: Any) -> None:
    try:
        text = kombu_json.dumps(value)
        meant = kombu_json.loads(text)
    except (ValueError, TypeError):
        return  # a dict that happens to look like a broken wrapper
    assert same_value(kombu_json.loads(json_encode(value)), meant)
    assert same_value(json_decode(text), meant)
    assert same_value(json_decode(text.encode()), meant)


@settings(max_examples=300, deadline=None)
@given(
    nested(plain | typed, texts),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 3), st.sampled_from(sorted(string.printable)))),
)
def test_mutated_text_is_read_alike(value: Any, edits: list[tuple[int, int, str]]) -> None:
    text = kombu_json.dumps(value)
    for at, cut, insert in edits:
        text = text[:at] + insert + text[at + cut :]
    agree(text)


@settings(max_examples=300, deadline=None)
@given(st.text('{}[]",:\\u0123456789abcdefENaIinfty-+._ \ud800_', max_size=40))
def test_noise_is_read_alike(text: str) -> None:
    agree(text)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(long_parts),
        max_size=8,
    )
)
def test_long_strings_are_read_alike(parts: list[str]) -> None:
    text = "".join(parts)
    agree(f'["{text}"]')
    agree(f'{{"{text}": 1}}')
    agree(f'{{"__type__{text}": "x", "\\u005f_type__": "{text}"}}')
    agree(f'["{text}')


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60) | st.binary(max_size=20).map(lambda data: b'["' + data + b'"]'))
def test_binary_noise_is_read_alike(data: bytes) -> None:
    agree(data)


@settings(max_examples=200, deadline=None)
@given(st.from_regex(r"-?[0-9]{1,40}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,4})?", fullmatch=True))
def test_numbers_are_read_alike(text: str) -> None:
    agree(text)
    agree(f'{{"n": [{text}, {text}]}}')
