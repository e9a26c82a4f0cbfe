"""The few system calls about processes that the worker needs, each in one line of meaning.

Linux first: where a call is missing (macOS has no child subreaper), the function says so by its result, and
the caller goes without.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import signal
import time
from collections.abc import Iterable

#: how a child ends whose descriptors were closed by a task
EXIT_CUT_OFF = 115

#: above what a child has open itself, below where those end who close "all"
_CANARY_FD = 200

_PR_SET_CHILD_SUBREAPER = 36
_FREEZE_WAIT_S = 0.05
_FREEZE_STEP_S = 0.0005


def become_subreaper() -> bool:
    """Orphaned descendants become children of this process, so that it reaps what a template forked. Those
    that exist already are included."""
    import ctypes  # only the supervisor needs it: no other process of the worker has its memory

    try:
        libc = ctypes.CDLL(None, use_errno=True)
        return bool(libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
    except (OSError, AttributeError):
        return False


def set_name(name: str) -> None:
    """The process's short name in ``ps`` and ``top`` (15 bytes)."""
    with contextlib.suppress(OSError), open("/proc/self/comm", "wb", buffering=0) as comm:
        comm.write(name.encode()[:15])


def reap() -> list[tuple[int, int]]:
    """All children that have ended: (pid, exit code; negative for a signal)."""
    ended: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended.append((pid, os.waitstatus_to_exitcode(status)))


def kill_group(pid: int, signum: int) -> None:
    """Signal a process and everything it started; a process that is gone, or was not told yet (0, which would
    mean our own group), is no error."""
    if pid <= 0:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signum)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signum)  # it may not have made its own group yet


def freeze(pid: int) -> bool:
    """Stop a child of this process; whether it stands still (or is gone) after 50 ms at most."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + _FREEZE_WAIT_S
    while time.monotonic() < deadline:
        try:
            if os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None:
                return True
        except ChildProcessError:
            return True
        time.sleep(_FREEZE_STEP_S)
    return False


def thaw(pid: int) -> None:
    """Let it go on."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGCONT)


def exit_text(code: int) -> str:
    """An exit code for people: ``exit code 1``, ``killed by SIGKILL``."""
    if code == EXIT_CUT_OFF:
        return "exit code 115: the worker's descriptors were closed in its process"
    if code >= 0:
        return f"exit code {code}"
    name = signal_name(-code)
    hint = " (out of memory?)" if -code == signal.SIGKILL else ""
    return f"killed by {name}{hint}"


def signal_name(number: int) -> str:
    """``SIGTERM``; ``signal 40`` for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def close_fds(fds: Iterable[int]) -> None:
    """Close them; one that is closed already is no error."""
    for fd in fds:
        try:  # noqa: SIM105 - each child comes by here, and would have copies of what suppress() touches
            os.close(fd)
        except OSError:
            pass


def canary(fd: int) -> int:
    """A descriptor by which to see whether this process's were closed all together: a copy of ``fd`` with a
    number so high that files opened afterwards do not soon get it. ``fd`` itself where there is no room."""
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _CANARY_FD)
    except OSError:
        return fd


def file_of(fd: int) -> tuple[int, int] | None:
    """Which file, socket or pipe a descriptor stands for; None when it is closed."""
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def stdin_from_null() -> None:
    """A task must not read the terminal."""
    fd = os.open(os.devnull, os.O_RDONLY)
    os.dup2(fd, 0)
    if fd != 0:
        os.close(fd)


def rss_kib() -> int:
    """This process's resident memory, in KiB."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize() // 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def usable_cpus() -> int:
    """The CPUs this process may run on."""
    try:
        return len(os.sched_getaffinity(0)) or 1
    except (AttributeError, OSError):
        return os.cpu_count() or 1


def native_threads() -> int:
    """Threads of this process, also those Python does not know; 1 where it cannot be told."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 1


def open_sockets() -> int:
    """Socket descriptors of this process; 0 where it cannot be told."""
    count = 0
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:
        return 0
    for name in names:
        with contextlib.suppress(OSError):
            count += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
    return count
