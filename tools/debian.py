"""Find a server program, installing its Debian package when it is missing.

Nothing is started by the installation: the package's own service would take the standard port and folder.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

SYSTEM_FOLDERS = ("/usr/sbin", "/usr/lib/rabbitmq/bin", "/usr/local/sbin", "/sbin")
POLICY = Path("/usr/sbin/policy-rc.d")


class BrokerUnavailable(RuntimeError):
    """A server can't be had on this machine; the message says what to do."""


def find_program(name: str, folders: Sequence[str] = SYSTEM_FOLDERS) -> str | None:
    """The program's path, also where an ordinary user's PATH does not look."""
    return shutil.which(name, path=os.pathsep.join([*folders, os.environ.get("PATH", "")]))


def ensure_program(name: str, package: str) -> str:
    """The program's path, after installing its package if need be. Raises BrokerUnavailable."""
    found = find_program(name)
    if found:
        return found
    if os.environ.get("ENGINE_NO_INSTALL"):
        raise BrokerUnavailable(
            f"{name} is not installed and ENGINE_NO_INSTALL is set: apt-get install {package}"
        )
    with _one_at_a_time():
        if not find_program(name):  # by another process, meanwhile
            install(package)
    found = find_program(name)
    if not found:
        raise BrokerUnavailable(f"{package} was installed but {name} is not there")
    return found


def install(package: str) -> None:
    """apt-get install, as root or through sudo without a password. Raises BrokerUnavailable."""
    apt = shutil.which("apt-get")
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    by_hand = f"install it by hand (sudo apt-get install {package})"
    if not apt or (prefix and not shutil.which("sudo")):
        raise BrokerUnavailable(f"{package} is missing and can't be installed from here: {by_hand}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with _no_services():
        for command in (["update", "-q"], ["install", "-y", "-q", "--no-install-recommends", package]):
            done = subprocess.run(
                [*prefix, apt, *command], env=environment, capture_output=True, text=True, check=False
            )
            if done.returncode and command[0] == "install":
                last = (done.stderr.strip().splitlines() or ["no message"])[-1]
                raise BrokerUnavailable(f"apt-get install {package} failed ({last}): {by_hand}")


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    with open(Path(tempfile.gettempdir()) / f"engine-apt-{os.geteuid()}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _no_services() -> Iterator[None]:
    """Debian starts a service when its package is installed, unless policy-rc.d says no (exit 101)."""
    ours = os.geteuid() == 0 and not POLICY.exists()
    if ours:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            POLICY.unlink(missing_ok=True)
