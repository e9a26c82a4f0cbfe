"""Commands as RESP beside hiredis's, and the answer of the claiming script."""

from __future__ import annotations

import hiredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.codec import (
    Delivery,
    Message,
    TaskTemplate,
    decode_claims,
    decode_envelope,
    encode_command,
    encode_envelope,
    encode_push,
    held_tags,
)
from engine.errors import DecodeError, EncodeError

HEAD = encode_command(["LPUSH", "q"]).replace(b"*2", b"*3")


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.binary() | st.text(st.characters(exclude_categories=["Cs"])) | st.integers(), min_size=1),
)
def test_commands_are_those_of_hiredis(words: list[bytes | str | int]) -> None:
    assert encode_command(words) == hiredis.pack_command(tuple(words))


def test_a_float_is_written_as_python_shows_it() -> None:
    assert encode_command(("SET", 0.1)) == b"*2\r\n$3\r\nSET\r\n$3\r\n0.1\r\n"


@pytest.mark.parametrize("size", [0, 1, 7, 800, 80_000])
def test_a_push_is_the_envelope_in_its_command(size: int) -> None:
    message = Message(b"x" * size, headers={"task": "t"}, routing_key="q", correlation_id="i")
    assert encode_push(HEAD, message, "tag") == encode_command(
        ["LPUSH", "q", encode_envelope(message, "tag")]
    )


@pytest.mark.parametrize("task", ["proj.add", 'quo"te\\', "ümlaut", "\ud800", "tab\t"])
@pytest.mark.parametrize("ignored", [None, True, False])
def test_headers_out_of_a_template_are_those_of_a_dict(task: str, ignored: bool | None) -> None:
    template = TaskTemplate(task, routing_key="q", priority=12)
    made, again = (template.message("id", (1,), {}, ignored) for _ in range(2))
    assert made is not None
    assert again is not None
    again.headers = dict(again.headers or {})
    try:
        expected = encode_envelope(again, "tag")
    except EncodeError:
        with pytest.raises(EncodeError):
            encode_envelope(made, "tag")
        return
    assert decode_envelope(encode_envelope(made, "tag")).headers == decode_envelope(expected).headers
    assert made.headers == again.headers


def test_headers_of_any_kind_that_came_as_a_table() -> None:
    message = Delivery(b"", headers={}).to_message()
    message.headers = {"n": [1, None], "t": True, "s": "x"}
    assert decode_envelope(encode_envelope(message, "tag")).headers == message.headers


def test_claims() -> None:
    bad: list[tuple[str, str]] = []
    envelopes = [encode_envelope(Message(b"%d" % at, routing_key="r"), f"t{at}") for at in range(2)]
    answer = [b"t0", 0, envelopes[0], b"other", 3, envelopes[1], b"\xc3\xa9", 2, b"no envelope"]
    held = {"before"}
    found = decode_claims(
        answer, ("a", "b"), 7, "ctx", held, lambda queue, error: bad.append((queue, str(error)))
    )
    assert [(one.tag, one.queue, one.epoch, one.context) for one in found] == [
        ("t0", "a", 7, "ctx"),
        ("other", "b", 7, "ctx"),
        ("é", "a", 7, "ctx"),
    ]
    assert [one.body for one in found] == [b"0", b"1", b"no envelope"]
    assert held == {"before", "t0", "other", "é"}
    assert [queue for queue, _ in bad] == ["a"]
    assert decode_claims([], ("a",), 7, "ctx", held, lambda queue, error: None) == []


def test_what_is_held_is_taken_once_by_context() -> None:
    held = {"a", "b", "c", "d", "e"}
    deliveries = [
        Delivery(b"", tag="a", epoch=1, context="x"),
        Delivery(b"", tag="b", epoch=2, context="x"),
        Delivery(b"", tag="c", epoch=1, context="y"),
        Delivery(b"", tag="a", epoch=1, context="x"),
        Delivery(b"", tag="d", epoch=1, context="x"),
        Delivery(b"", tag="e", epoch=1),
        Delivery(b"", tag="f", epoch=1, context="x"),
    ]
    assert held_tags(deliveries, 1, held) == {"x": ["a", "d"], "y": ["c"]}
    assert held == {"b", "e"}


def test_an_error_in_the_teller_is_raised() -> None:
    def tell(queue: str, error: DecodeError) -> None:
        raise error

    with pytest.raises(DecodeError):
        decode_claims([b"t", 0, b"{"], ("a",), 1, "ctx", set(), tell)
