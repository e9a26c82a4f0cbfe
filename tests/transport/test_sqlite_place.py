"""Which path a URL means, and that the place is safe."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from engine.errors import ConfigurationError, ConnectionFailed
from engine.transport.sqlite_place import (
    beside,
    filesystem_type,
    make_private,
    path_of,
    refuse_network_filesystem,
)
from tests.transport.sqlite_support import opened, publish


def test_relative_and_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert path_of("sqlite:///engine.db") == tmp_path / "engine.db"
    assert path_of("sqlite:///sub/engine.db") == tmp_path / "sub/engine.db"
    assert path_of("sqlite:////var/lib/engine.db") == Path("/var/lib/engine.db")
    assert path_of("sqlite:////var/with%20space.db") == Path("/var/with space.db")
    assert path_of("db+sqlite:////var/lib/results.db") == Path("/var/lib/results.db")


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("sqlite:///:memory:", "memory://"),
        ("sqlite://engine.db", "three slashes"),
        ("sqlite://", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite:////var/lib/", "names no file"),
    ],
)
def test_urls_that_name_no_file(url: str, word: str) -> None:
    with pytest.raises(ConfigurationError, match=word):
        path_of(url)


def test_every_file_is_private_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "engine.db"
    old = os.umask(0)
    try:
        with opened(path) as transport:
            from engine.model import QueueSpec

            transport.declare(QueueSpec("q"))
            publish(transport, "q", b"x")
            transport.consume(["q"], 1)
            assert transport.receive(1)
            found = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in tmp_path.rglob("*")}
    finally:
        os.umask(old)
    assert {"engine.db", "engine.db-wal", "engine.db-shm", "engine.db-writer", "engine.db-owners"} <= set(
        found
    )
    assert found.pop("engine.db-bell") == 0o700
    assert {name: mode for name, mode in found.items() if mode != 0o600} == {}


def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "target.db").touch()
    link = tmp_path / "engine.db"
    link.symlink_to(tmp_path / "target.db")
    with pytest.raises(ConnectionFailed, match="symbolic link"):
        make_private(link)
    dangling = tmp_path / "dangling.db"
    dangling.symlink_to(tmp_path / "nowhere.db")
    with pytest.raises(ConnectionFailed):
        make_private(dangling)
    assert not (tmp_path / "nowhere.db").exists()


def test_a_folder_reached_by_a_link_is_fine(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with opened(tmp_path / "link" / "engine.db") as transport:
        assert transport.connected
    assert (tmp_path / "real" / "engine.db").exists()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConnectionFailed, match="No such file"), opened(tmp_path / "missing" / "engine.db"):
        pass


def _mounts(tmp_path: Path, kind: str) -> Path:
    device = tmp_path.stat().st_dev
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "21 1 0:99 / /proc rw shared:1 - proc proc rw\n"
        f"30 1 {os.major(device)}:{os.minor(device)} / /data rw,noatime shared:2 - {kind} server:/x rw\n"
    )
    return mounts


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs"])
def test_network_filesystems_are_refused(tmp_path: Path, kind: str) -> None:
    mounts = _mounts(tmp_path, kind)
    assert filesystem_type(tmp_path, mounts) == kind
    with pytest.raises(ConfigurationError, match=f"network filesystem \\({kind}\\)"):
        refuse_network_filesystem(tmp_path / "engine.db", mounts)


def test_local_ones_are_taken(tmp_path: Path) -> None:
    refuse_network_filesystem(tmp_path / "engine.db", _mounts(tmp_path, "ext4"))
    assert filesystem_type(tmp_path, tmp_path / "no-such-mountinfo") is None
    assert filesystem_type(tmp_path / "missing") is None
    assert filesystem_type(Path("/proc")) == "proc"


def test_side_files() -> None:
    assert beside(Path("/a/engine.db"), "-bell") == Path("/a/engine.db-bell")
