"""The whole test suite: starts the private brokers it needs, runs pytest, stops them again.

A marker file stands while the tests run. If a run died natively (a crash of the extension), the next one
says so instead of passing over it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tools import brokers

ROOT = Path(__file__).resolve().parent.parent
CRASHED = ROOT / ".cache" / "tests-running"


def main(argv: list[str]) -> int:
    CRASHED.parent.mkdir(exist_ok=True)
    if CRASHED.exists():
        print(f"note: an earlier run ended without a report ({CRASHED.read_text().strip()})", flush=True)
    started = []
    for kind in brokers.KINDS:
        if brokers.running(kind) is not None:
            continue
        try:
            server = brokers.start(kind)
        except brokers.BrokerUnavailable as error:
            print(f"{kind} is not available: {error}", flush=True)
            if os.environ.get("CI"):
                return 1
        else:
            started.append(kind)
            print(f"{kind}: {server.url}", flush=True)
    CRASHED.write_text(" ".join(argv) or "all tests")
    try:
        done = subprocess.run([sys.executable, "-m", "pytest", *argv], cwd=ROOT, check=False)
    finally:
        for kind in started:
            brokers.stop(kind)
    if done.returncode >= 0:
        CRASHED.unlink(missing_ok=True)
    else:
        print(f"the test process died of signal {-done.returncode}", flush=True)
    return abs(done.returncode)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
