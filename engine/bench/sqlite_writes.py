"""The longest write transaction of each of a worker's processes on SQLite: all others wait for it.

Only workers of `growth-children` look, for it costs a microsecond or two a transaction.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine.transport.sqlite_database import Database

_ENDING = ".write"


def watch(folder: str) -> None:
    """From here on each process notes its longest write in a file of that folder."""
    longest: dict[str, int] = {}
    write_as_before = Database.write

    @contextmanager
    def write(self: Database, *, durable: bool = False) -> Iterator[Any]:
        outermost = not self.connection.in_transaction
        with write_as_before(self, durable=durable) as connection:
            start_ns = time.monotonic_ns()  # its turn has come
            yield connection
        held_ns = time.monotonic_ns() - start_ns
        path = f"{folder}/{os.getpid()}{_ENDING}"
        if outermost and (held_ns > longest.get(path, 0) or not os.path.exists(path)):
            longest[path] = held_ns
            Path(path).write_text(str(held_ns), encoding="ascii")

    Database.write = write  # type: ignore[method-assign]


def forget(folder: Path) -> None:
    """What was noted until now does not count."""
    for path in folder.glob(f"*{_ENDING}"):
        path.unlink()


def longest_s(folder: Path) -> float | None:
    """The longest of all processes; None where nobody looked, or nobody wrote."""
    noted = [int(path.read_text(encoding="ascii") or 0) for path in folder.glob(f"*{_ENDING}")]
    return max(noted) / 1e9 if noted else None
