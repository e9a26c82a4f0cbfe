"""The whole test suite: starts the private brokers it needs, runs pytest, stops them again.

``python -m tools.run_tests [pytest arguments]``. The whole suite mostly waits, so it runs in two processes,
each with brokers of its own: some tests close every connection of a server, or stop it for a while. Arguments
that name files, or tests in them, run in one process on the shared brokers. ``-n`` says how many: 0 is one.

A marker file stands while the tests run. If a run died natively (a crash of the extension), the next one
says so instead of passing over it. A process beside others that dies so fails the test that it ran, by name.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tools import brokers

ROOT = Path(__file__).resolve().parent.parent
CRASHED = ROOT / ".cache" / "tests-running"
PROCESSES = 2


def main(argv: list[str]) -> int:
    CRASHED.parent.mkdir(exist_ok=True)
    if CRASHED.exists():
        print(f"note: an earlier run ended without a report ({CRASHED.read_text().strip()})", flush=True)
    count, others = processes(argv)
    spread = ["-n", str(count), "--dist", "worksteal"] if count else []
    try:
        with servers([f"gw{number}" for number in range(count)] or [""]):
            CRASHED.write_text(" ".join(argv) or "all tests")
            done = subprocess.run([sys.executable, "-m", "pytest", *spread, *others], cwd=ROOT, check=False)
    except brokers.BrokerUnavailable:
        return 1
    if done.returncode >= 0:
        CRASHED.unlink(missing_ok=True)
    else:
        print(f"the test process died of signal {-done.returncode}", flush=True)
    return abs(done.returncode)


def processes(argv: Sequence[str]) -> tuple[int, list[str]]:
    """How many processes of pytest-xdist, 0 for none, and the arguments without that."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-n", "--numprocesses", type=int)
    options, others = parser.parse_known_args(argv)
    if options.numprocesses is not None:
        return options.numprocesses, others
    named = any(argument and (ROOT / argument.partition("::")[0]).exists() for argument in others)
    forbidden = any("no:xdist" in argument for argument in others)
    return 0 if named or forbidden else PROCESSES, others


@contextmanager
def servers(names: Sequence[str]) -> Iterator[None]:
    """Brokers for each process named, "" being the shared ones. Stops those that were not up.

    One that can't be had is told; with CI=true it raises BrokerUnavailable.
    """
    wanted = [(kind, name) for name in names for kind in brokers.KINDS if not brokers.running(kind, name)]
    try:
        with ThreadPoolExecutor(max_workers=len(names)) as pool:
            missing = [error for error in pool.map(_start, wanted) if error is not None]
        if missing and os.environ.get("CI"):
            raise missing[0]
        yield
    finally:
        for kind, name in wanted:
            brokers.stop(kind, name)


def _start(wanted: tuple[str, str]) -> brokers.BrokerUnavailable | None:
    kind, name = wanted
    who = f"{kind} of {name}" if name else kind
    try:
        server = brokers.start(kind, name)
    except brokers.BrokerUnavailable as error:
        print(f"{who} is not available: {error}", flush=True)
        return error
    print(f"{who}: {server.url}", flush=True)
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
