"""Shows that the guards catch a slow-down: ``python -m tools.guard_check [words of a seed's name]``.

A copy of the tree under .cache is made slower in one place after the other (`tools/guard_seeds.py`); each
time the guard that watches the place must fail, and name it. Before that both guards must pass on the copy as
it is. It takes minutes, since one seed rebuilds the codec: run it after a change of the guards themselves.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tools import brokers
from tools.guard_seeds import SEEDS, Edit, Seed

ROOT = Path(__file__).resolve().parent.parent
COPY = ROOT / ".cache" / "guard-check"
PARTS = ("engine", "benchmarks", "tools", "setup.py", "pyproject.toml", "README.md")


def main(words: list[str]) -> int:
    seeds = [seed for seed in SEEDS if all(word in seed.name for word in words)]
    started = [kind for kind in brokers.KINDS if brokers.running(kind) is None]
    for kind in started:
        brokers.start(kind)
    try:
        prepare()
        passed = [passes(guard) for guard in dict.fromkeys(seed.guard for seed in seeds)]
        passed += [catches(seed) for seed in seeds]
    finally:
        for kind in started:
            brokers.stop(kind)
    print(f"{sum(passed)} of {len(passed)} as they should be")
    return 0 if passed and all(passed) else 1


def prepare() -> None:
    """A fresh copy, the built extensions included; its tools find the brokers of this checkout."""
    shutil.rmtree(COPY, ignore_errors=True)
    (COPY / ".cache").mkdir(parents=True)
    (COPY / ".cache" / "brokers").symlink_to(brokers.STATE)
    for part in PARTS:
        restore(part)


def restore(part: str) -> None:
    """A file or folder of the copy as it is in this checkout; gone, when it is not there."""
    source, target = ROOT / part, COPY / part
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    elif source.exists():
        shutil.copy(source, target)
    else:
        target.unlink(missing_ok=True)


def passes(guard: tuple[str, ...]) -> bool:
    """Whether the guard passes on the copy as it is."""
    status, output, took_s = run(guard)
    word = "NOT OK" if status else "ok"
    print(f"{word}: unchanged, {name_of(guard)} passes ({took_s:.0f} s)", flush=True)
    if status:
        print(output)
    return status == 0


def catches(seed: Seed) -> bool:
    """Whether the guard fails on the seed and names what it should; the copy is as before afterwards."""
    rebuilt = any(edit.file.endswith(".pxi") for edit in seed.edits)
    try:
        for edit in seed.edits:
            plant(edit)
        if rebuilt:
            build()
        status, output, took_s = run(seed.guard)
    finally:
        for edit in seed.edits:
            restore(edit.file)
        if rebuilt:
            restore("engine")
    missed = [what for what in seed.caught if not is_named(what, output)]
    good = status != 0 and not missed
    print(f"{'ok' if good else 'NOT OK'}: {seed.name}: {name_of(seed.guard)} exit {status} ({took_s:.0f} s)")
    for line in told(output) if good else [f"not named: {missed}", *output.splitlines()]:
        print(f"    {line}", flush=True)
    return good


def plant(edit: Edit) -> None:
    """Put an edit in; an error when the place has changed, so that no seed is lost unseen."""
    path = COPY / edit.file
    content = path.read_text() if edit.text else ""
    if edit.text and content.count(edit.text) != 1:
        raise SystemExit(f"{edit.file} has no single {edit.text!r}: adapt the seed in tools/guard_seeds.py")
    path.write_text(content.replace(edit.text, edit.instead) if edit.text else edit.instead)


def is_named(what: str, output: str) -> bool:
    """Whether the guard says that this became slower."""
    ratio, count = rf"slower than it was: {re.escape(what)}  ", rf"  {re.escape(what)}  .*\+.*  off$"
    return re.search(f"{ratio}|{count}", output, re.MULTILINE) is not None


def told(output: str) -> list[str]:
    """The lines that say what became slower, and by how much."""
    lines = [line for line in output.splitlines() if "slower than it was" in line or line.endswith("  off")]
    return list(dict.fromkeys(line.rpartition("slower than it was: ")[2].strip() for line in lines))


def name_of(guard: tuple[str, ...]) -> str:
    return guard[1] if guard[1] != "pytest" else f"benchmarks -k '{guard[-1]}'"


def build() -> None:
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace", "--force"]
    done = subprocess.run(command, cwd=COPY, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the codec with its seed does not build:\n{done.stderr}")


def run(guard: tuple[str, ...]) -> tuple[int, str, float]:
    """Exit status, output, seconds."""
    environment = {**os.environ, "PYTHONPATH": str(COPY), "PYTHONDONTWRITEBYTECODE": "1"}
    started_mono_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, *guard], cwd=COPY, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr, time.monotonic() - started_mono_s


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
