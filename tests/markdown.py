"""Takes code out of a Markdown page, and runs its console sessions as a reader would."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cli.command import environment

_FENCE = re.compile(r"^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"^# (?P<name>[\w./]+\.py)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Step:
    """One command of a console block, and what it is said to print."""

    command: str
    output: str


def files(page: str) -> dict[str, str]:
    """The Python blocks whose first line is a comment with a file name."""
    found = {}
    for block in _FENCE.finditer(page):
        named = _FILE.match(block["text"])
        if block["language"] == "python" and named:
            found[named["name"]] = block["text"]
    return found


def snippets(page: str) -> list[str]:
    """The Python blocks without a file name."""
    blocks = [block["text"] for block in _FENCE.finditer(page) if block["language"] == "python"]
    return [text for text in blocks if not _FILE.match(text)]


def steps(page: str) -> list[Step]:
    """All commands of all console blocks, in order, without the comments behind them."""
    found: list[Step] = []
    for block in _FENCE.finditer(page):
        if block["language"] != "console":
            continue
        for line in block["text"].splitlines():
            if line.startswith("$ "):
                found.append(Step(re.sub(r"\s{2,}#.*", "", line[2:]), ""))
            elif found:
                found[-1] = Step(found[-1].command, found[-1].output + line + "\n")
    return found


class Shell:
    """A folder with the page's files, and an `engine` command that is this checkout's."""

    def __init__(self, folder: Path, environ: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        bin_folder = folder / "bin"
        bin_folder.mkdir()
        for name, arguments in (("engine", "-m engine"), ("python", "")):
            script = bin_folder / name
            script.write_text(f'#!/bin/sh\nexec {sys.executable} {arguments} "$@"\n')
            script.chmod(script.stat().st_mode | stat.S_IXUSR)
        path = f"{bin_folder}{os.pathsep}{os.environ['PATH']}"
        self.environ = environment({**(environ or {}), "PATH": path})

    def run(self, command: str, timeout_s: float = 60) -> str:
        """What a command prints. Fails with all its words when its status is not 0."""
        done = subprocess.run(
            command,
            shell=True,
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        assert done.returncode == 0, f"{command}: status {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @contextmanager
    def background(self, command: str) -> Iterator[subprocess.Popen[bytes]]:
        """A command that runs meanwhile, such as a worker; it must end by itself when asked to."""
        log = self.folder / "background.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                f"exec {command}",
                shell=True,
                cwd=self.folder,
                env=self.environ,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            yield process
            assert process.poll() is None, f"{command} ended early:\n{log.read_text()}"
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0, log.read_text()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
