"""The ``engine`` command's way in. It imports click only where click is needed: see `engine.cli.quick`."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["run"]:
        from engine.cli.quick import read, run

        worker = read(words[1:])
        if worker is not None:
            sys.exit(run(*worker))
    from engine.cli.commands import run_command

    sys.exit(run_command(words))
