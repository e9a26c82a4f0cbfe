"""Line coverage of engine/, the extensions included: ``python -m tools.coverage_build [pytest arguments]``.

A copy of the tree under .cache is built with line tracing, so that the build in use stays fast. Ends with
coverage's report; fails below the floor.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tools import brokers

ROOT = Path(__file__).resolve().parent.parent
COPY = ROOT / ".cache" / "coverage"
FLOOR_PERCENT = 90
PARTS = (
    "engine",
    "tests",
    "tools",
    "examples",
    "docs",
    "setup.py",
    "pyproject.toml",
    "README.md",
    "CHANGELOG.md",
)
#: Tests that measure speed mean nothing under tracing.
DESELECT = ("--ignore=benchmarks", "-p", "no:benchmark")


def main(argv: list[str]) -> int:
    prepare()
    environment = {**os.environ, "PYTHONPATH": str(COPY), "COVERAGE_FILE": str(COPY / ".coverage")}

    def run(*command: str) -> int:
        return subprocess.run(
            [sys.executable, *command],
            cwd=COPY,
            env={**environment, "ENGINE_LINETRACE": "1"},
            check=False,
        ).returncode

    if run("setup.py", "-q", "build_ext", "--inplace", "--force"):
        return 1
    started = [kind for kind in brokers.KINDS if brokers.running(kind) is None]
    for kind in started:
        brokers.start(kind)
    # the copy's own tools find the shared servers through the state of this checkout
    (COPY / ".cache").mkdir(exist_ok=True)
    (COPY / ".cache" / "brokers").symlink_to(brokers.STATE)
    try:
        failed = run("-m", "coverage", "run", "-m", "pytest", "-q", *DESELECT, *argv)
    finally:
        for kind in started:
            brokers.stop(kind)
    run("-m", "coverage", "combine", "-q")
    low = run("-m", "coverage", "report", "--skip-covered", f"--fail-under={FLOOR_PERCENT}")
    return failed or low


def prepare() -> None:
    """A fresh copy of the sources, without what a build left behind."""
    shutil.rmtree(COPY, ignore_errors=True)
    COPY.mkdir(parents=True)
    left_behind = shutil.ignore_patterns("*.so", "*.c", "__pycache__")
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, COPY / part, ignore=left_behind)
        elif source.exists():
            shutil.copy(source, COPY / part)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
