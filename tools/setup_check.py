"""Say clearly what is missing before the set-up starts. Runs on the bare system Python, old ones included."""

import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Iterator  # noqa: UP035 - must load on old Pythons


def missing() -> "Iterator[str]":
    """A line for each thing that is missing, with what to do."""
    if sys.version_info < (3, 10):  # noqa: UP036 - an older Python must get the message, not a traceback
        yield (
            "Python 3.10 or newer is needed, this is {}.{}: make PYTHON=python3.12 ...".format(
                *sys.version_info[:2]
            )
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        yield "Python's venv module is missing: sudo apt-get install python3-venv"
    if not any(map(shutil.which, ("cc", "gcc", "clang"))):
        yield "a C compiler is missing: sudo apt-get install gcc"
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        yield "Python's headers are missing: sudo apt-get install python3-dev"


if __name__ == "__main__":
    problems = list(missing())
    for problem in problems:
        print("set-up:", problem, file=sys.stderr)
    sys.exit(1 if problems else 0)
