"""Holds what tasks cost in instructions: ``python -m tools.instructions [--record]``.

callgrind counts instructions, not time, so the numbers are the same on a busy machine and repeat within some
thousandths. Where the heap puts names and types decides which of them share a place in Python's caches, by up
to 6 % here: each operation is counted in a few layouts, and the least holds.

The numbers depend on the compiler, on the interpreter and how that was built, and so
`benchmarks/instructions.json` keeps a record for each kind of build; the one that fits is held. Fewer than
recorded fails as well as more: what was won is recorded too, or it could be lost again unseen. A kind of
build without a record is told, and nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import sysconfig
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

from tools.debian import BrokerUnavailable, ensure_program

ROOT = Path(__file__).resolve().parent.parent
RECORDS = ROOT / "benchmarks" / "instructions.json"
ALLOWED = 0.05
COUNT = 200
LAYOUTS = (300, 1_000, 3_000)  #: strings made before anything else
TIMEOUT_S = 300


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.instructions", description=__doc__)
    parser.add_argument("--record", action="store_true", help="make today's numbers the recorded ones")
    options = parser.parse_args()
    try:
        valgrind = ensure_program("valgrind", "valgrind")
    except BrokerUnavailable as error:
        print(f"instructions are not counted: {error}")
        return 1 if os.environ.get("CI") else 0
    counts = measure(valgrind, ROOT)
    kind, made_with = build_kind(ROOT), versions()
    records = json.loads(RECORDS.read_text()) if RECORDS.exists() else {}
    if options.record:
        records[kind] = {"made_with": made_with, "instructions": counts}
        RECORDS.write_text(json.dumps(records, indent=2, sort_keys=True) + "\n")
    return report(counts, kind, made_with, records.get(kind))


def measure(valgrind: str, root: Path) -> dict[str, int]:
    """Instructions of each operation, by its name. Raises RuntimeError with what was said when it failed."""
    # once without valgrind: with all modules compiled the heap is as it will be in later runs
    run([sys.executable, "-S", "-m", "benchmarks.instructions", "1"], root)
    found = [in_layout(valgrind, root, strings) for strings in LAYOUTS]
    return {name: min(counts[name] for counts in found) for name in found[0]}


def in_layout(valgrind: str, root: Path, strings: int) -> dict[str, int]:
    """The same with so many strings on the heap."""
    program = (
        f"import sys, runpy; kept = [str(number) for number in range({strings})]; "
        f"sys.argv[1:] = ['{COUNT}']; runpy.run_module('benchmarks.instructions', run_name='__main__')"
    )
    with tempfile.TemporaryDirectory(prefix="engine-callgrind-") as folder:
        out = Path(folder) / "out"
        tool = ["-q", "--tool=callgrind", f"--callgrind-out-file={out}", "--dump-before=getppid"]
        command = [valgrind, *tool, sys.executable, "-S", "-c", program]
        return per_operation(run(command, root).splitlines(), Path(folder))


def run(command: list[str], root: Path) -> str:
    """Its standard output. The environment is bare, and -S leaves out site customizations."""
    done = subprocess.run(
        command,
        cwd=root,
        env={
            "PATH": os.environ.get("PATH", ""),
            "PYTHONHASHSEED": "0",
            "PYTHONPATH": os.pathsep.join([str(root), sysconfig.get_path("purelib")]),
        },
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def per_operation(names: list[str], folder: Path) -> dict[str, int]:
    """From callgrind's parts: three an operation (warm-up, N times, 2N times), and one for the end."""
    parts = sorted(folder.glob("out.*"), key=lambda part: int(part.suffix[1:]))
    if len(parts) != 3 * len(names):
        raise RuntimeError(f"callgrind wrote {len(parts)} parts for {len(names)} operations, not three each")
    totals = [total_of(part) for part in parts]
    return {
        name: round((totals[3 * index + 2] - totals[3 * index + 1]) / COUNT)
        for index, name in enumerate(names)
    }


def total_of(part: Path) -> int:
    found = re.search(r"^totals: (\d+)", part.read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"{part.name} of callgrind has no totals")
    return int(found[1])


def build_kind(root: Path) -> str:
    """What decides the numbers: machine, Python and how it was built, the extension's compiler."""
    [extension, *_] = sorted(root.glob(f"engine/_codec*{sysconfig.get_config_var('EXT_SUFFIX')}"))
    compiler = re.search(rb"(GCC: \([^)]*\)|clang version) (\d+)", extension.read_bytes())
    name = (
        "unknown" if compiler is None else f"{'gcc' if b'GCC' in compiler[1] else 'clang'}{int(compiler[2])}"
    )
    flags = re.findall(r"-O\w+", str(sysconfig.get_config_var("PY_CFLAGS")))
    if "--enable-optimizations" in str(sysconfig.get_config_var("CONFIG_ARGS")):
        flags.append("-pgo")
    python = f"python{sys.version_info.major}.{sys.version_info.minor}{flags[-1] if flags else ''}"
    return f"{platform.machine()} {python} {name}"


def versions() -> dict[str, str]:
    """What may move the numbers within one kind; told when they moved."""
    return {"python": platform.python_version(), "orjson": metadata.version("orjson")}


def report(
    counts: dict[str, int], kind: str, made_with: dict[str, str], record: dict[str, Any] | None
) -> int:
    """Prints a line an operation; 1 when one is off its record."""
    print(f"instructions a call, on {kind}:")
    recorded = record["instructions"] if record else {}
    failed = False
    for name in [*counts, *(name for name in recorded if name not in counts)]:
        verdict, off = compared(counts.get(name), recorded.get(name))
        failed |= off and record is not None
        print(f"  {name:<32} {counts.get(name, 0):>8,}  {verdict}".rstrip())
    if record is None:
        print("no record for this kind of build: nothing is held; --record makes one")
    elif failed:
        if made_with != record["made_with"]:
            print(f"the record was made with {record['made_with']}, this is {made_with}")
        print(f"off: more than {ALLOWED:.0%} from the record. If that is meant, make guard-record,")
        print("and say in the commit what changed")
    return 1 if failed else 0


def compared(count: int | None, known: int | None) -> tuple[str, bool]:
    """What to say of a count, and whether it is off its record."""
    if known is None or count is None:
        return ("not recorded" if known is None else "no such operation any more"), True
    change = count / known - 1
    off = abs(change) > ALLOWED
    return f"{change:+6.1%} of {known:>8,}{'  off' if off else ''}", off


if __name__ == "__main__":
    sys.exit(main())
