"""Forking many processes that belong to somebody else: to the nearest subreaper, not to the one who forks.

They are forked by a process in the middle, which ends at once. It forks all of them, so that what this costs
besides, in time and in memory that is no longer shared, is paid once and not for each.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn


def fork_detached(count: int, body: Callable[[int], int]) -> list[int]:
    """Fork ``count`` processes; number n of them runs ``body(n)`` and exits with what it returns. Their pids,
    in order: fewer than wanted where the system had no room for more. Raises OSError when it had for none."""
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
    middle = os.fork()
    if middle == 0:
        try:
            os.close(read_fd)
            _fork_all(count, body, write_fd)
        finally:  # whatever happened, it must not go on as a second one of who forked it
            os._exit(1)
    os.close(write_fd)
    said = b""
    try:
        while data := os.read(read_fd, 4096):
            said += data
    finally:
        os.close(read_fd)
        os.waitpid(middle, 0)
    pids = [int(line) for line in said.splitlines()]
    if not pids:
        raise OSError("could not fork a child: the system is out of processes or memory")
    return pids


def _fork_all(count: int, body: Callable[[int], int], write_fd: int) -> NoReturn:
    """In the middle."""
    for number in range(count):
        try:
            pid = os.fork()
        except OSError:
            os._exit(1)
        if pid == 0:
            os.close(write_fd)
            _run(body, number)
        os.write(write_fd, b"%d\n" % pid)
    os._exit(0)


def _run(body: Callable[[int], int], number: int) -> NoReturn:
    code = 1
    try:
        code = body(number)
    except BaseException:  # noqa: BLE001 - the last thing this process says
        traceback.print_exc()
    finally:
        leave(code)


def leave(code: int) -> NoReturn:
    """End without running what belongs to the parent: its atexit functions, its test runner, its finally."""
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    with contextlib.suppress(Exception):
        sys.stderr.flush()
    os._exit(code)
