"""Where an SQLite broker lives on disk: which path a URL means, and that the place is safe.

Safe is: a file only its owner can read, made without following a symbolic link, on a filesystem of this
machine. SQLite's write-ahead log needs memory shared between processes, which no network filesystem gives.
"""

from __future__ import annotations

import os
from pathlib import Path

from engine.errors import ConfigurationError, ConnectionFailed
from engine.transport.url import BrokerURL, mask_url

#: Filesystem types (as /proc/self/mountinfo names them) on which locks or shared memory can't be trusted.
NETWORK_FILESYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "coda", "ncpfs", "lustre", "gfs2", "ocfs2", "9p"}
    | {"fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "fuse.rclone", "fuse.davfs", "fuse.ceph"}
)

_MOUNTS = Path("/proc/self/mountinfo")


def path_of(url: str) -> Path:
    """``sqlite:///relative.db`` or ``sqlite:////absolute/path.db`` as an absolute path."""
    parts = BrokerURL.parse(url.removeprefix("db+"))
    if parts.host is not None:
        raise ConfigurationError(
            f"{mask_url(url)!r} names a host, and SQLite is a file: write sqlite:///{parts.host} (three "
            "slashes) for a file in the working folder, sqlite:////path (four) for an absolute path"
        )
    if not parts.path or parts.path.endswith("/"):
        raise ConfigurationError(f"{mask_url(url)!r} names no file: write e.g. sqlite:///engine.db")
    if parts.path.startswith((":memory:", "file:")):
        raise ConfigurationError(
            f"{mask_url(url)!r} would be private to each process: use memory:// for tests, or name a file"
        )
    return Path(os.path.abspath(parts.path))  # Path.resolve would follow a link at the end


def beside(path: Path, suffix: str) -> Path:
    """The side file of that name: ``engine.db`` has ``engine.db-bell`` and the like."""
    return path.with_name(path.name + suffix)


def make_private(path: Path) -> None:
    """Create an empty file of mode 0600 if there is none. Raises ConnectionFailed.

    An existing file is not opened here: closing any descriptor of it would drop the POSIX locks that SQLite
    holds on it in this process (sqlite.org/howtocorrupt.html, section 2.2)."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        if path.is_symlink():
            raise ConnectionFailed(
                f"{path} is a symbolic link: name the file itself, so that it cannot be exchanged"
            ) from None
    except OSError as error:
        raise ConnectionFailed(f"cannot create {path}: {error.strerror}") from error


def refuse_network_filesystem(path: Path, mounts: Path = _MOUNTS) -> None:
    """Raises ConfigurationError when the file lies on a filesystem that other machines share."""
    kind = filesystem_type(path.parent, mounts)
    if kind in NETWORK_FILESYSTEMS:
        raise ConfigurationError(
            f"{path} lies on a network filesystem ({kind}), where SQLite's locks do not hold and messages "
            "would be lost: use a local disk, or a server (amqp://, redis://)"
        )


def filesystem_type(folder: Path, mounts: Path = _MOUNTS) -> str | None:
    """The type of the filesystem that holds `folder`; None when the kernel doesn't tell.

    The device decides, not the longest path: bind mounts and links can't mislead it."""
    try:
        device = folder.stat().st_dev
        lines = mounts.read_text().splitlines()
    except OSError:
        return None
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in lines:
        fields, _, rest = line.partition(" - ")
        if fields.split()[2] == wanted:
            return rest.split()[0]
    return None
