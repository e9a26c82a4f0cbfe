"""What the tutorial says is run: its files, its commands, and what they print."""

from pathlib import Path

import pytest

from tests.markdown import Shell, files, steps

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "index.md").read_text(encoding="utf-8")
WORKER = "engine run shop:app --concurrency 2"


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    for name, text in files(PAGE).items():
        (tmp_path / name).write_text(text)
    return Shell(tmp_path)


def test_the_session(shell: Shell) -> None:
    session = steps(PAGE)
    assert session[0].command == WORKER
    with shell.background(WORKER):
        for step in session[1:]:
            printed = shell.run(step.command)
            if step.output:
                assert printed == step.output, step.command
        assert "reports" in shell.run("engine queues shop:app -Q reports")


def test_the_readers_own_tests(shell: Shell) -> None:
    assert "2 passed" in shell.run("python -m pytest -q -p no:cacheprovider -p no:randomly test_shop.py")
