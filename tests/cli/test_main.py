"""The command as a whole: help, versions, usage errors, start-up."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from engine.cli.commands import COMMANDS, cli, run_command
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
        "import sys; from engine.cli.commands import run_command; run_command(['--help'])\n"
        "print(sorted(m for m in sys.modules if m.startswith('engine.cli.')), file=sys.stderr)\n"
        "heavy = {'rich', 'kombu', 'redis', 'celery', 'psutil', 'apsw', 'asyncio'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=60
    )
    assert done.stderr.splitlines() == ["['engine.cli.commands', 'engine.cli.exit_codes']", "[]"]
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


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("def f(:\n", "SyntaxError: "),
        ("import not_there_at_all\n", "ModuleNotFoundError: No module named 'not_there_at_all'"),
        ("x = 1 / 0\n", "ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit(3)\n", "it calls sys.exit(3) when it is imported"),
    ],
)
def test_an_app_that_cannot_be_imported_is_one_line_after_its_own_traceback(
    tmp_path: Path, source: str, told: str
) -> None:
    (tmp_path / "broken.py").write_text(source)
    for command in (["queues"], ["call"], ["report"]):
        for name in ("broken", "broken.py"):
            done = engine(*command, name, *(["t"] if command == ["call"] else []), cwd=tmp_path)
            assert (done.returncode, done.stdout) == (2, "")
            assert done.stderr.splitlines()[-1].startswith(f"engine: cannot import '{name}': ")
            assert told in done.stderr.splitlines()[-1]
            assert "importlib" not in done.stderr
            assert "loader.py" not in done.stderr
            if "exit" not in told:
                assert "broken.py" in "".join(done.stderr.splitlines()[:2])


def test_a_task_is_no_app(shop: Path) -> None:
    for word in ("shop.add", "shop:add"):
        done = engine("call", word, "1", "2", cwd=shop)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            f"engine: '{word}' is a task, not an app: name the app, then the task, e.g. shop:app shop.add\n"
        )
    for word, told in ((".", "'.' is a folder"), (".shop", "'.shop' is not a module's name")):
        done = engine("queues", word, cwd=shop)
        assert done.returncode == 2
        assert done.stderr.startswith(f"engine: {told}")


def test_a_full_disk_behind_stdout_is_one_line(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "engine", "report"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=environment(),
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "engine: cannot write or read: No space left on device\n"


def test_where_the_broker_is_set_is_said(shop: Path) -> None:
    unreachable = engine("queues", "shop", cwd=shop, environ={"ENGINE_BROKER_URL": "redis://127.0.0.1:1"})
    assert unreachable.returncode == 3
    assert "ENGINE_BROKER_URL" in unreachable.stderr
    assert "broker_url" in unreachable.stderr
    option = engine("run", "shop", "-b", "redis://127.0.0.1:1", cwd=shop)
    assert option.returncode == 2
    assert "ENGINE_BROKER_URL" in option.stderr
