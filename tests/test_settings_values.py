"""Values of settings: conversions, refusals, and what is shown of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ConfigurationError
from engine.settings import BY_NAME, ROWS, Settings
from engine.settings_values import parse_text, to_kind


def make(**keywords: Any) -> Settings:
    return Settings(keywords, environ={})


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("task_time_limit", timedelta(minutes=2), 120.0),
        ("task_time_limit", "2.5", 2.5),
        ("task_time_limit", None, None),
        ("result_expires", 0, 0.0),
        ("task_acks_late", "off", False),
        ("task_acks_late", 1, True),
        ("broker_pool_limit", 3.0, 3),
        ("broker_url", ["amqp://a", "amqp://b"], "amqp://a;amqp://b"),
        ("accept_content", "json", ("json",)),
        ("imports", ["a", "b"], ("a", "b")),
        ("task_default_queue", None, "celery"),
        ("task_publish_retry_policy", {"max_retries": 1}, {"max_retries": 1}),
    ],
)
def test_converted(name: str, value: Any, expected: Any) -> None:
    assert make(**{name: value})[name] == expected


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("task_time_limit", "soon", "task_time_limit takes seconds .* not 'soon'"),
        ("task_time_limit", -1, "task_time_limit is at least 0, not -1"),
        ("task_time_limit", True, "takes seconds"),
        ("task_time_limit", float("nan"), "takes seconds"),
        ("task_acks_late", "maybe", "takes true or false, not 'maybe'"),
        ("broker_pool_limit", 2.5, "takes a whole number"),
        ("task_default_queue_type", "fast", "one of classic, quorum, not 'fast'"),
        ("task_protocol", 1, "one of 2, not 1"),
        ("broker_transport_options", "x", "takes a mapping"),
        ("task_default_queue", 5, "takes a string, not 5"),
        ("broker_url", 5, "takes a URL"),
    ],
)
def test_refused_with_words(name: str, value: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        make(**{name: value})


def test_refusals_hide_passwords() -> None:
    with pytest.raises(ConfigurationError) as caught:
        make(broker_transport_options="redis://u:canary@h")
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("accept_content", "json, msgpack", ("json", "msgpack")),
        ("broker_transport_options", '{"visibility_timeout": 60}', {"visibility_timeout": 60}),
        ("task_routes", '{"a.*": "q"}', {"a.*": "q"}),
        ("task_time_limit", "none", None),
        ("task_acks_late", "true", True),
    ],
)
def test_text_from_the_environment(name: str, text: str, expected: Any) -> None:
    assert Settings(environ={f"ENGINE_{name.upper()}": text})[name] == expected


def test_bad_json_in_the_environment_names_the_variable() -> None:
    with pytest.raises(ConfigurationError, match="ENGINE_BROKER_TRANSPORT_OPTIONS is not JSON"):
        Settings(environ={"ENGINE_BROKER_TRANSPORT_OPTIONS": "{"})


def test_masked_shows_no_secret() -> None:
    conf = make(
        broker_url=["amqp://u:canary@a/v", "amqp://u:canary@b/v"],
        result_backend="redis://:canary@h/0?password=canary",
        broker_password="canary",
        broker_transport_options={"sentinel_kwargs": {"password": "canary"}, "x": ["redis://u:canary@h"]},
        broker_use_ssl={"keyfile_password": "canary", "ca_certs": "/ca.pem"},
    )
    shown = conf.masked()
    assert "canary" not in repr(shown)
    assert "canary" not in repr(conf)
    assert shown["broker_url"] == "amqp://u:**@a/v;amqp://u:**@b/v"
    assert shown["task_default_routing_key"] == "celery"
    assert shown["broker_use_ssl"]["ca_certs"] == "/ca.pem"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_each_default_is_a_value_the_row_accepts(row: Any) -> None:
    if row.default is not None:
        converted = to_kind(row, row.default, row.name)
        assert converted == row.default or converted == tuple(row.default)


@given(st.text(max_size=20))
def test_any_text_is_a_value_or_a_clear_error(text: str) -> None:
    for name in ("task_time_limit", "broker_pool_limit", "task_acks_late", "broker_transport_options"):
        row = BY_NAME[name]
        told = None
        try:
            to_kind(row, parse_text(row, text, name), name)
        except ConfigurationError as error:
            told = str(error)
        assert told is None or name in told
