"""The file that keeps revoked ids over restarts (``worker_state_db``): one id a line, appended as they come.

Rules: it belongs to one running worker (a lock says so) and to its user alone (0600); a torn last line, after
a crash, costs that line; a file of somebody else's is never written to; what it holds is bounded, by writing
it anew when it is opened with more than is remembered.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

log = logging.getLogger("engine.worker")

_HEADER = b"engine revoked task ids, version 1\n"


class StateFile:
    """An open state file. ``keys``: what it held when it was opened."""

    def __init__(self, path: Path, most: int) -> None:
        """Opens or makes it. Raises OSError; ValueError for one that is another worker's or program's."""
        self.path = path
        self._file = _locked(path)
        try:
            self.keys = self._load(most)
        except BaseException:
            self._file.close()
            raise

    def _load(self, most: int) -> list[str]:
        first, *lines = self._file.read().split(b"\n")
        if not first and not lines:
            self._file.write(_HEADER)
            self._file.flush()
            return []
        if first + b"\n" != _HEADER:
            raise ValueError("it is not a state file of this worker (Celery's cannot be read): name another")
        keys = [key for line in lines[:-1] if (key := _key_of(line)) is not None]
        if len(keys) > most or lines[-1]:
            keys = keys[-most:]
            self._rewrite(keys)
        return keys

    def _rewrite(self, keys: Sequence[str]) -> None:
        """Written beside it and put in its place, so that a crash leaves one of the two."""
        beside = self.path.with_name(f"{self.path.name}.new")
        fresh = _locked(beside)
        fresh.truncate(0)
        fresh.write(_HEADER + _lines(keys))
        fresh.flush()
        os.replace(beside, self.path)
        self._file.close()
        self._file = fresh

    def append(self, keys: Sequence[str]) -> None:
        """Raises OSError."""
        self._file.write(_lines(keys))
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _locked(path: Path) -> BinaryIO:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise ValueError(
            "another worker has it open: give each a file of its own (%n is its name)"
        ) from error
    return os.fdopen(fd, "r+b")


def _lines(keys: Sequence[str]) -> bytes:
    return b"".join(json.dumps(key).encode() + b"\n" for key in keys)


def _key_of(line: bytes) -> str | None:
    try:
        key = json.loads(line)
    except ValueError:
        return None
    return key if isinstance(key, str) and key else None


def open_state(pattern: str, nodename: str, most: int) -> StateFile | None:
    """The file of a worker: ``%n`` is its name, ``%d`` its host, ``%h`` both. None, with an error in the log,
    when it cannot be used: the worker goes on without."""
    name, _, host = nodename.partition("@")
    path = pattern
    for mark, text in (("%n", name), ("%d", host), ("%h", nodename), ("%%", "%")):
        path = path.replace(mark, text)
    try:
        return StateFile(Path(path), most)
    except (OSError, ValueError) as error:
        log.error(
            "revoked tasks are forgotten at a restart: worker_state_db %s cannot be used: %s", path, error
        )
        return None
