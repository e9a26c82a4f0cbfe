"""Errors become statuses and one line."""

from pathlib import Path

import pytest

from engine import errors
from engine.cli.exit_codes import ExitCode, error_line, exit_code_for
from tests.cli.command import engine


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigurationError("x"), ExitCode.USAGE),
        (errors.UnknownSetting("x"), ExitCode.USAGE),
        (errors.MissingExtra("x"), ExitCode.USAGE),
        (errors.ResultsDisabled("x"), ExitCode.USAGE),
        (errors.ConnectionFailed("x"), ExitCode.UNREACHABLE),
        (errors.AccessRefused("x"), ExitCode.UNREACHABLE),
        (errors.ConnectionLost("x"), ExitCode.UNREACHABLE),
        (errors.QueueNotFound("x"), ExitCode.NOT_FOUND),
        (errors.NotRegistered("x"), ExitCode.NOT_FOUND),
        (errors.ResultTimeout("x"), ExitCode.TIMEOUT),
        (errors.PublishRefused("x"), ExitCode.FAILURE),
        (errors.EngineError("x"), ExitCode.FAILURE),
    ],
)
def test_every_error_has_its_status(error: errors.EngineError, code: ExitCode) -> None:
    assert exit_code_for(error) is code


def test_the_line_is_one_line_and_says_what_to_do() -> None:
    line = error_line(errors.ConnectionFailed("cannot reach\n  amqp://h"))
    assert line.startswith("cannot reach amqp://h (")
    assert "--broker" in line
    assert "password" in error_line(errors.AccessRefused("refused"))


def test_an_error_without_words_tells_its_name() -> None:
    assert error_line(errors.PublishRefused()) == "PublishRefused"


@pytest.mark.parametrize("command", [["queues"], ["call", "shop", "shop.add", "1", "2"], ["report", "shop"]])
def test_a_password_that_was_not_quoted_is_not_shown(shop: Path, command: list[str]) -> None:
    for url in ("amqp://guest:canary#x@127.0.0.1//", "redis://:12/canary@127.0.0.1/0"):
        given = ["-b", url] if command == ["queues"] else []
        done = engine(*command, *given, cwd=shop, environ={"ENGINE_BROKER_URL": url})
        assert "canary" not in done.stdout + done.stderr
        if command != ["report", "shop"]:
            assert done.returncode == 2
            assert done.stderr.count("\n") == 1
            assert "%23" in done.stderr
