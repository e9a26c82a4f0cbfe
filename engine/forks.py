"""A fork of a worker's child: a process made by a task with ``os.fork`` that comes back out of user code.

Such a process has the child's task, its result and its broker connection, and must touch none of them: it
ends here, with the exit status that Python would have given it. What it printed is flushed first.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from typing import NoReturn

forked = False  #: this process is a fork of a worker's child
#: of this process, at the cost of a look: the system call takes as long as ten lines of ours
pid = os.getpid()


def _note_pid() -> None:
    global pid
    pid = os.getpid()


os.register_at_fork(after_in_child=_note_pid)


def watch() -> None:
    """From now on, forks of this process are known as such. Once, in a worker's child."""
    os.register_at_fork(after_in_child=_mark)


def _mark() -> None:
    global forked
    forked = True


def leave(error: object = None) -> NoReturn:
    """End this fork; ``error`` is what user code raised, if it raised."""
    code = 0
    with contextlib.suppress(Exception):
        code = _status(error)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


def _status(error: object) -> int:
    """As the interpreter: the code of ``sys.exit``, 1 after a traceback."""
    if isinstance(error, SystemExit):
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        sys.stderr.write(f"{error.code}\n")
        return 1
    if isinstance(error, BaseException):
        traceback.print_exception(error)
        return 1
    return 0
