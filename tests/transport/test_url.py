"""Broker URLs: taken apart, refused with words that help, and never shown with a password in them."""

from __future__ import annotations

import pytest

from engine.errors import ConfigurationError, EngineError
from engine.masking import mask_text, mask_url
from engine.results import open_store
from engine.settings import Settings
from engine.transport import open_transport, transport_class
from engine.transport.base import TransportOptions
from engine.transport.url import BrokerURL, split_failover

#: as people write them; the password holds "canary"
UNQUOTED = [
    "{}://guest:canary#x@127.0.0.1:1//",
    "{}://guest:12#canary@127.0.0.1:1//",
    "{}://guest:canary/x@127.0.0.1:1//",
    "{}://guest:12/canary@127.0.0.1:1//",
    "{}://guest:canary?x@127.0.0.1:1//",
    "{}://guest:12?canary@127.0.0.1:1//",
    "{}://gu#est:canary@127.0.0.1:1//",
    "{}://gu/est:canary@127.0.0.1:1//",
    "{}://guest:canary;x@127.0.0.1:1//",
    "{}://guest:12;canary@127.0.0.1:1//",
    "{}://guest:canary:x",
    "{}://guest:canary",
    "{}://:canary#@127.0.0.1:1/0",
    "{}://guest:[canary@127.0.0.1:1//",
    "{}://guest:can#ary canary@127.0.0.1:1//",
]


@pytest.mark.parametrize("scheme", ["amqp", "redis", "rediss", "kombu+amqp"])
@pytest.mark.parametrize("url", UNQUOTED)
def test_an_unquoted_password_is_not_shown_and_the_remedy_is(url: str, scheme: str) -> None:
    url = url.format(scheme)
    with pytest.raises(EngineError) as caught:
        open_transport(url, TransportOptions(connect_timeout=0.2))
    told: BaseException | None = caught.value
    while told is not None:
        assert "canary" not in str(told)
        told = told.__cause__
    assert "canary" not in mask_url(url)
    assert "canary" not in repr(Settings({"broker_url": url}))
    if not scheme.startswith("kombu"):
        assert isinstance(caught.value, ConfigurationError)
        assert "%23" in str(caught.value)
    if scheme == "redis" and ";" not in url:
        with pytest.raises(ConfigurationError) as refused:
            open_store(url).get("x")
        assert "canary" not in str(refused.value)


def test_words_without_a_scheme_are_not_shown_either() -> None:
    for url in ("guest:canary@127.0.0.1", "canary@127.0.0.1", "//guest:canary@127.0.0.1"):
        with pytest.raises(ConfigurationError) as caught:
            transport_class(url)
        assert "canary" not in str(caught.value)


def test_quoted_passwords_and_odd_but_right_urls_are_read() -> None:
    assert BrokerURL.parse("amqp://u:a%23b%2Fc%3Fd%40e%3Bf@h:1//").password == "a#b/c?d@e;f"
    assert BrokerURL.parse("amqp://u:a@b@h").password == "a@b"
    assert BrokerURL.parse("redis://h:6379/0?name=a@b").query == {"name": "a@b"}
    assert BrokerURL.parse("sqlite:////tmp/a@b.db").path == "/tmp/a@b.db"
    assert BrokerURL.parse("amqp://[::1]:5672//").host == "::1"
    assert split_failover("amqp://a:b@h1; amqp://h2;") == ["amqp://a:b@h1", "amqp://h2"]


def test_a_file_name_with_a_number_sign_is_refused_where_it_would_be_cut() -> None:
    with pytest.raises(ConfigurationError, match="%23"):
        BrokerURL.parse("sqlite:///a#b.db")


def test_what_is_no_secret_stays() -> None:
    for url in (
        "amqp://guest@h:5672//",
        "redis://h:6379/0?name=a@b",
        "sqlite:////tmp/a@b.db",
        "amqp://[::1]:5672//",
        "memory://",
        "amqp://h1//;redis://h2",
    ):
        assert mask_url(url) == url
    assert (
        mask_url("amqp://a:b@h1//;redis://:c@h2?password=d") == "amqp://a:**@h1//;redis://:**@h2?password=**"
    )
    assert mask_text("no answer from amqp://a:b@h: x@y") == "no answer from amqp://a:**@h: x@y"
