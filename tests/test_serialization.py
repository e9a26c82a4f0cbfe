"""Serializers and the accept list; kombu's registry is the oracle."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from kombu import serialization as kombu_serialization

from engine import serialization
from engine.errors import ConfigurationError, ContentDisallowed, DecodeError, EncodeError
from engine.serialization import accepted_types, dumps, loads

ALL = ["json", "msgpack", "pickle", "yaml"]
VALUE = {"numbers": [1, 2.5, -3], "text": "é😀", "nothing": None, "deep": {"list": [[]]}}


@pytest.mark.parametrize("name", ALL)
def test_both_ways_and_as_kombu(name: str) -> None:
    content_type, content_encoding, body = dumps(VALUE, name)
    theirs = kombu_serialization.dumps(VALUE, serializer=name)
    assert (content_type, content_encoding) == theirs[:2]
    assert isinstance(body, bytes)
    assert loads(body, content_type, content_encoding, [name]) == VALUE
    assert loads(body, content_type, content_encoding, [content_type]) == VALUE
    assert kombu_serialization.loads(body, content_type, content_encoding, force=True) == VALUE
    assert dumps(VALUE, content_type) == (content_type, content_encoding, body)


def test_json_keeps_kombus_types() -> None:
    value = [uuid.UUID(int=1), datetime(2024, 1, 2, tzinfo=timezone.utc), b"\xff"]
    content_type, content_encoding, body = dumps(value)
    assert loads(body, content_type, content_encoding) == value


def test_jsons_functions_can_be_given() -> None:
    assert dumps([1], "json", write_json=lambda value: b"written") == (
        "application/json",
        "utf-8",
        b"written",
    )
    assert loads(b"x", "application/json", "utf-8", read_json=lambda body: (b"read", body)) == (b"read", b"x")
    with pytest.raises(ContentDisallowed):
        loads(b"x", "application/json", "utf-8", ["yaml"], read_json=lambda body: body)


class Canary:
    """Unpickling it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("accept", [None, ["json"], ["json", "yaml", "msgpack"], ["application/json"], []])
def test_pickle_is_never_touched_unless_it_is_accepted(tmp_path: Path, accept: list[str] | None) -> None:
    _, encoding, body = dumps(Canary(tmp_path / "fired"), "pickle")
    for content_type in (
        "application/x-python-serialize",
        "application/X-Python-Serialize",
        "application/x-python-serialize; charset=utf-8",
    ):
        with pytest.raises(ContentDisallowed, match="accept_content"):
            loads(body, content_type, encoding, accept)
    for content_type in ("application/json", "application/x-yaml", "application/x-msgpack"):  # relabelled
        with pytest.raises((ContentDisallowed, DecodeError)):
            loads(body, content_type, encoding, accept)
    assert not (tmp_path / "fired").exists()
    loads(body, "application/x-python-serialize", encoding, ["pickle"])
    assert (tmp_path / "fired").exists()


def test_yaml_makes_no_objects() -> None:
    with pytest.raises(DecodeError, match="application/x-yaml"):
        loads(b"!!python/object/apply:os.getcwd []", "application/x-yaml", "utf-8", ["yaml"])


@pytest.mark.parametrize(
    "content_type", ["application/x-yaml", "application/x-msgpack", "text/plain", "image/png", "x"]
)
def test_other_types_are_refused_with_the_way_to_accept_them(content_type: str) -> None:
    with pytest.raises(ContentDisallowed, match=r"add '.*' to accept_content"):
        loads(b"1", content_type, "utf-8")


def test_raw_data_is_never_decoded() -> None:
    assert loads(b"\x80\x04", "application/data", "binary") == b"\x80\x04"
    assert loads(b"\x80\x04", None, "binary") == b"\x80\x04"
    assert loads("é".encode(), "application/text", "utf-8") == "é"
    assert dumps(b"\x00", "raw") == ("application/data", "binary", b"\x00")


@pytest.fixture
def signed() -> Iterator[str]:
    """A serializer that took the name of raw data, as Celery's `auth` does."""
    kombu_serialization.register("signed", str, lambda body: ("verified", body), "application/data")
    yield "signed"
    kombu_serialization.unregister("signed")
    serialization._accepted_types.cache_clear()


def test_a_serializer_of_the_apps_own(signed: str) -> None:
    assert accepted_types([signed, "json"]) == {"application/data", "application/json"}
    assert loads(b"x", "application/data", "utf-8", [signed]) == ("verified", b"x")
    with pytest.raises(ContentDisallowed):
        loads(b"x", "application/data", "utf-8", ["json"])


def test_content_types_with_parameters_or_capitals() -> None:
    assert loads(b"[1]", "application/json; charset=utf-8", "utf-8") == [1]
    assert loads(b"[1]", "Application/JSON", "utf-8") == [1]


@pytest.mark.parametrize(
    ("body", "content_type", "encoding"),
    [
        (b"{", "application/json", "utf-8"),
        (b"[" * 100_000, "application/json", "utf-8"),
        (b"\xff", "application/json", "utf-8"),
        (b"garbage", "application/x-python-serialize", "binary"),
        (b"\xc1", "application/x-msgpack", "binary"),
        (b"a: b: c", "application/x-yaml", "utf-8"),
        (b"x", "application/text", "no-such-encoding"),
    ],
)
def test_bodies_that_are_not_what_they_claim(body: bytes, content_type: str, encoding: str) -> None:
    with pytest.raises(DecodeError, match="can't be read as"):
        loads(body, content_type, encoding, ALL)


@pytest.mark.parametrize(
    ("value", "name"), [(object(), "json"), (object(), "msgpack"), (lambda: 1, "pickle"), (object(), "yaml")]
)
def test_values_that_can_not_be_written(value: object, name: str) -> None:
    with pytest.raises(EncodeError, match=f"can't be written as {name}"):
        dumps(value, name)


def test_unknown_serializers_name_the_known() -> None:
    with pytest.raises(ConfigurationError, match=r"'jsno'; registered are .*json, msgpack, pickle, yaml"):
        dumps(1, "jsno")
    with pytest.raises(ConfigurationError, match="'jsno'"):
        accepted_types(["json", "jsno"])


WITHOUT_MODULES = """
import builtins
real = builtins.__import__
def without(name, *rest):
    if name.partition(".")[0] in ("msgpack", "yaml"):
        raise ImportError(name)
    return real(name, *rest)
builtins.__import__ = without
from engine.errors import MissingExtra
from engine.serialization import dumps, loads
kinds = {"msgpack": "application/x-msgpack", "yaml": "application/x-yaml"}
for name, kind in kinds.items():
    for call in (lambda: dumps(1, name), lambda: loads(b"1", kind, "utf-8", [name])):
        try:
            call()
        except MissingExtra as error:
            print(name, f"'.[{name}]'" in str(error))
"""


def test_missing_modules_name_their_extra() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_MODULES], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["msgpack", "True", "msgpack", "True", "yaml", "True", "yaml", "True"]


def test_an_app_of_json_alone_never_imports_kombus_registry() -> None:
    program = (
        "import sys; from engine.serialization import dumps, loads\n"
        "dumps(1, write_json=lambda v: b'1'); loads(b'1', 'application/json', None, read_json=lambda b: 1)\n"
        "print('kombu.serialization' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
