"""Lint, types and layers, one line a check: ``python -m tools.check lint|types|all``."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from glob import glob
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent

LINT = {
    "format": ["ruff", "format", "--check", "."],
    "lint": ["ruff", "check", "."],
    "cython-lint": [
        "cython-lint",
        *sorted(glob("engine/*.p[yx][xd]") + glob("engine/_*/*.pxi")),
    ],
    "layers": ["lint-imports"],
}
TYPES = {
    "mypy": ["mypy"],
    "stubtest": [
        "stubtest",
        "--allowlist",
        "tools/stubtest_allowlist.txt",
        "--ignore-unused-allowlist",
        "engine._codec",
        "engine._keepalive",
        "engine._work",
    ],
}


def run(checks: dict[str, list[str]]) -> int:
    """Run them all; the output of those that fail; how many failed."""
    failed = 0
    # cython-lint looks for pycodestyle on the PATH
    path = f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    for name, (program, *args) in checks.items():
        started = time.monotonic()
        done = subprocess.run(
            [str(BIN / program), *args],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        word = "ok" if done.returncode == 0 else "FAILED"
        print(f"{name:12} {word} ({time.monotonic() - started:.1f} s)", flush=True)
        if done.returncode:
            failed += 1
            print(done.stdout + done.stderr, flush=True)
    return failed


def main() -> int:
    which = sys.argv[1] if len(sys.argv) > 1 else "all"
    checks = {"lint": LINT, "types": TYPES, "all": {**LINT, **TYPES}}.get(which)
    if checks is None:
        print("use: python -m tools.check lint|types|all", file=sys.stderr)
        return 2
    return 1 if run(checks) else 0


if __name__ == "__main__":
    sys.exit(main())
