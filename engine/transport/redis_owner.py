"""Who holds a claim: owner tokens, and whether a process of this host that owns one still lives.

A token is ``<host>/<pid>/<start>/<random>``. The host part names one boot and one PID namespace, so a process
of the same host part is one whose PID can be looked up: when it is gone, what it held is given back at once,
without waiting for its lease to end. Where /proc tells nothing, everybody is taken to be alive.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from engine.ids import new_id


def host_id() -> str:
    """One boot of one machine, and the PID namespace in it. "" where that cannot be known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return ""
    return f"{socket.gethostname()}-{boot[:13]}-{namespace}"


def new_token(host: str) -> str:
    pid = os.getpid()
    return f"{host}/{pid}/{_start_ticks(pid) or 0}/{new_id()}"


def is_dead(token: str) -> bool:
    """Whether the process that made the token is surely gone. Only for tokens of this host."""
    _, _, rest = token.partition("/")
    pid_text, _, rest = rest.partition("/")
    start_text = rest.partition("/")[0]
    if not (pid_text.isdigit() and start_text.isdigit()):
        return False
    pid, start = int(pid_text), int(start_text)
    started = _start_ticks(pid)
    if started is not None:
        return started == -1 or (start != 0 and started != start)
    try:  # /proc may hide the processes of others
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


def _start_ticks(pid: int) -> int | None:
    """When it started, in clock ticks since boot; -1 for a zombie; None when /proc does not tell."""
    try:
        file = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fields = os.read(file, 4096).rpartition(b")")[2].split()
    except OSError:  # it ended meanwhile
        return None
    finally:
        os.close(file)
    return -1 if fields[0] in b"ZX" else int(fields[19])
