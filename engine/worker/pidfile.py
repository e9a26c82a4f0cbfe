"""A file with the worker's pid, so that a second worker of the same file refuses to start."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from engine.errors import ConfigurationError


@contextlib.contextmanager
def pidfile(path: str | None) -> Iterator[None]:
    """Hold the file while the body runs. Raises ConfigurationError when a living process holds it; a stale
    one is replaced. Mode 0600, and never through a symbolic link."""
    if path is None:
        yield
        return
    _take(path)
    try:
        yield
    finally:
        if _holder(path) == os.getpid():
            os.unlink(path)


def _take(path: str) -> None:
    for _ in range(2):
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            holder = _holder(path)
            if holder and _alive(holder):
                raise ConfigurationError(
                    f"the pid file {path} names process {holder}, which is running: stop it, or use "
                    "another file"
                ) from None
            os.unlink(path)
        except OSError as error:
            raise ConfigurationError(f"cannot write the pid file {path}: {error.strerror}") from None
        else:
            with os.fdopen(fd, "w") as file:
                file.write(f"{os.getpid()}\n")
            return
    raise ConfigurationError(f"cannot take the pid file {path}: another worker is starting")


def _holder(path: str) -> int:
    try:
        with open(path) as file:
            return int(file.read().strip() or 0)
    except (OSError, ValueError):
        return 0


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
