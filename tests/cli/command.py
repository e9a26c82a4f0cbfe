"""Runs the real command in a process of its own, as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def engine(
    *arguments: str, cwd: Path, timeout: float = 60, environ: dict[str, str] | None = None, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """`engine <arguments>`, finished. Nothing of the tests' own settings is passed on."""
    return subprocess.run(
        [sys.executable, "-m", "engine", *arguments],
        cwd=cwd,
        env=environment(environ),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def environment(more: dict[str, str] | None = None) -> dict[str, str]:
    """The environment of a command: this checkout, no settings but those given."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ENGINE_", "CELERY_"))}
    return {**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "120", **(more or {})}
