"""What runs in several processes, and that a test which wants to be alone is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tools.run_tests import PROCESSES, ROOT, processes

CONFTEST = """
from pathlib import Path
from tests import alone

alone.FILE = Path(__file__).parent / "lock" / "file"


def pytest_configure(config):
    config.addinivalue_line("markers", "alone: it is")
    config.pluginmanager.register(alone.Alone())
"""

TESTS = """
import time
from pathlib import Path
import pytest


def note(kind):
    with open(Path(__file__).parent / "times", "a") as times:
        began = time.monotonic()
        time.sleep(0.02)
        times.write(f"{kind} {began} {time.monotonic()}\\n")


@pytest.mark.parametrize("number", range(20))
def test_together(number):
    note("together")


@pytest.mark.alone
@pytest.mark.parametrize("number", range(5))
def test_alone(number):
    note("alone")


@pytest.mark.alone
def test_it_dies():
    note("alone")
    import os
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize(
    ("arguments", "count", "others"),
    [
        ([], PROCESSES, []),
        (["-q", "-k", "redis"], PROCESSES, ["-q", "-k", "redis"]),
        (["tests/test_ids.py", "-q"], 0, ["tests/test_ids.py", "-q"]),
        (["tests/test_ids.py::test_some", "-n", "3"], 3, ["tests/test_ids.py::test_some"]),
        (["-n0", "-x"], 0, ["-x"]),
        (["--numprocesses=4"], 4, []),
        (["-p", "no:xdist"], 0, ["-p", "no:xdist"]),
        (["no such file"], PROCESSES, ["no such file"]),
    ],
)
def test_processes(arguments: list[str], count: int, others: list[str]) -> None:
    assert processes(arguments) == (count, others)


def test_alone_is_alone_and_a_process_that_dies_holds_up_nobody(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    options = ["-n", "2", "--dist", "worksteal", "-p", "no:randomly"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(tmp_path)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 25 passed" in done.stdout
    assert "crashed while running 'test_it.py::test_it_dies'" in done.stdout
    noted = [line.split() for line in (tmp_path / "times").read_text().splitlines()]
    spans = [(kind, float(began), float(ended)) for kind, began, ended in noted]
    assert len(spans) == 26
    for kind, began, ended in spans:
        if kind == "alone":
            assert [span for span in spans if began < span[2] and span[1] < ended] == [(kind, began, ended)]
