"""The command as a whole: help, versions, usage errors, start-up."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from engine.cli.main import COMMANDS, cli, run_command
from tests.cli.command import engine, environment


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_subcommand_has_help_with_an_example(name: str) -> None:
    shown = CliRunner().invoke(cli, [name, "--help"])
    assert shown.exit_code == 0
    assert f"Example: engine {name}" in shown.output


@pytest.mark.parametrize("name", sorted({*COMMANDS} - {"run", "purge", "call", "result"}))
def test_subcommands_that_print_data_know_json(name: str) -> None:
    assert "--json" in CliRunner().invoke(cli, [name, "--help"]).output


def test_help_lists_every_subcommand_and_imports_none() -> None:
    code = (
        "import sys; from engine.cli.main import run_command; run_command(['--help'])\n"
        "print(sorted(m for m in sys.modules if m.startswith('engine.cli.')), file=sys.stderr)\n"
        "heavy = {'rich', 'kombu', 'redis', 'celery', 'psutil', 'apsw', 'asyncio'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=60
    )
    assert done.stderr.splitlines() == ["['engine.cli.exit_codes', 'engine.cli.main']", "[]"]
    for name, (_, line) in COMMANDS.items():
        assert name in done.stdout
        assert line in done.stdout


def test_version() -> None:
    shown = CliRunner().invoke(cli, ["--version"])
    assert shown.exit_code == 0
    assert shown.output.startswith("engine 0.")


def test_a_wrong_subcommand_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["quues"]) == 2
    assert "did you mean 'queues'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], "which app?"),
        (["run", "a", "b"], "one app at a time"),
        (["run", "a", "-c", "0"], "0"),
        (["run", "a", "-c", "100000"], "start a second worker"),
        (["run", "a", "--time-limit", "5", "--soft-time-limit", "5"], "must be below"),
        (["call"], "which app?"),
        (["call", "app"], "which task?"),
        (["call", "app", "add", "1", "--args", "[1]"], "not both"),
        (["call", "app", "add", "--args", "{}"], "must be a list"),
        (["call", "app", "add", "--kwargs", "[1"], "--kwargs is not JSON"),
        (["result", "app"], "the id of one task"),
        (["queues"], "whose queues?"),
        (["purge"], "whose queues?"),
        (["bench", "nonsense"], "nonsense"),
        (["bench", "--fail-over", "5"], "--compare"),
        (["demo", "/no/such/folder"], "/no/such/folder"),
    ],
)
def test_wrong_use_is_told_with_status_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(arguments) == 2
    shown = capsys.readouterr()
    assert words in shown.err
    assert shown.out == ""


def test_an_app_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    done = engine("queues", "no_such_module:app", cwd=tmp_path)
    assert done.returncode == 2
    assert "no_such_module" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = engine("queues", "no_such_module:app", cwd=tmp_path, environ={"ENGINE_DEBUG": "1"})
    assert "Traceback" in done.stderr


def test_a_broker_that_is_down_is_one_line_with_status_3(tmp_path: Path) -> None:
    done = engine("queues", "--broker", "amqp://user:hidden@127.0.0.1:1//", cwd=tmp_path)
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
    assert "127.0.0.1:1" in done.stderr
    assert "hidden" not in done.stderr
