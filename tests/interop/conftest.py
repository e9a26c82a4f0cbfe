"""The Celerys to test against: the installed one, and 5.6 in a virtual environment of its own."""

from __future__ import annotations

import fcntl
import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

#: Kept between runs: made once, under a lock, and only when every package is in it.
CACHE = Path(__file__).resolve().parents[2] / ".cache"
OLDER = CACHE / f"celery-5.6-py{sys.version_info[0]}{sys.version_info[1]}"
OLDER_PACKAGES = ("celery==5.6.*", "kombu==5.6.*", "redis", "pyyaml", "msgpack", "brotli", "zstandard")


def _unavailable(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _installed() -> str:
    version = importlib.metadata.version("celery")
    if not version.startswith("5.7"):
        _unavailable(f"the installed Celery is {version}, not 5.7")
    return sys.executable


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        shutil.rmtree(OLDER, ignore_errors=True)
        _unavailable(f"Celery 5.6 can't be installed: {done.stderr.strip().splitlines()[-1:]}")


def _older() -> str:
    python = OLDER / "bin" / "python"
    CACHE.mkdir(exist_ok=True)
    with open(OLDER.with_name(f"{OLDER.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        finished = OLDER / "packages.txt"
        if not finished.exists() or finished.read_text() != " ".join(OLDER_PACKAGES):
            shutil.rmtree(OLDER, ignore_errors=True)
            _run(sys.executable, "-m", "venv", str(OLDER))
            _run(str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *OLDER_PACKAGES)
            finished.write_text(" ".join(OLDER_PACKAGES))
    return str(python)


@pytest.fixture(scope="session", params=["celery-5.6", "celery-5.7"])
def celery_python(request: pytest.FixtureRequest) -> str:
    """The interpreter of a Celery: ``python -m celery ...``."""
    return _older() if request.param == "celery-5.6" else _installed()
