"""A full disk: publishing is refused with a word, acknowledging goes on; all is well when there is room."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.codec import Message
from engine.errors import ConnectionLost, PublishRefused
from engine.model import QueueSpec
from engine.results.base import ResultMeta
from engine.results.sqlite import SqliteStore
from engine.transport.sqlite import SqliteTransport
from engine.transport.sqlite_ballast import Ballast
from tests.transport.sqlite_support import opened, publish

SMALL = {"ballast_bytes": 512 * 1024}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 4 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"needs the right to mount a filesystem: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def _fill(folder: Path) -> Path:
    filler = folder / "somebody-else.log"
    with filler.open("wb") as file:
        try:
            while True:
                file.write(b"x" * 65536)
                file.flush()
        except OSError:
            pass
    return filler


def _integrity(transport: SqliteTransport) -> str:
    return str(transport.shared_connection.connection.pragma("integrity_check"))


def test_put_back_and_spent(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path / "engine.db", size=100_000)
    assert ballast.in_place()
    file = tmp_path / "engine.db-ballast"
    assert file.stat().st_blocks * 512 >= 100_000, "real blocks, not a hole"
    assert ballast.spend()
    assert not file.exists()
    assert not ballast.spend()
    assert ballast.put_back()
    assert [entry.name for entry in tmp_path.iterdir()] == ["engine.db-ballast"]


def test_no_room_for_it(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path / "engine.db", size=1 << 60)
    assert not ballast.in_place()
    assert list(tmp_path.iterdir()) == []


def test_acks_go_on_when_the_disk_is_full(small_disk: Path) -> None:
    with opened(small_disk / "engine.db", extra=SMALL) as transport:
        transport.declare(QueueSpec("q"))
        publish(transport, "q", *(b"%d" % number for number in range(200)))
        transport.consume(["q"], 0)
        held = transport.receive(1)
        assert len(held) == 200
        filler = _fill(small_disk)

        [refused] = [outcome for outcome in _publish_until_refused(transport) if outcome is not None]
        assert isinstance(refused, PublishRefused)
        assert "disk is full" in str(refused)

        for delivery in held:
            transport.ack([delivery])
        assert transport.queue_state("q").unacked == 0

        filler.unlink()
        publish(transport, "q", b"after")
        assert _integrity(transport) == "ok"


def _publish_until_refused(transport: SqliteTransport) -> list[Exception | None]:
    """Some still fit into the space that the log has already."""
    outcomes: list[Exception | None] = []
    while not outcomes or outcomes[-1] is None:
        assert len(outcomes) < 100
        outcomes += transport.publish([Message(b"y" * 60_000, routing_key="q")])
    return outcomes


def test_what_the_ballast_frees_is_not_for_publishers(small_disk: Path) -> None:
    with opened(small_disk / "engine.db", extra=SMALL) as transport:
        transport.declare(QueueSpec("q"))
        filler = _fill(small_disk)
        (small_disk / "engine.db-ballast").unlink()  # as spending it does
        [refused] = transport.publish([Message(b"y", routing_key="q")])
        assert isinstance(refused, PublishRefused)
        filler.unlink()
        publish(transport, "q", b"after")
        assert (small_disk / "engine.db-ballast").exists()


def test_results_with_their_acks_go_on(small_disk: Path) -> None:
    """A transaction that meets the full disk fails as a whole; one of the next tries finds room."""
    path = small_disk / "engine.db"
    told: list[str] = []
    with opened(path, extra=SMALL) as transport:
        store = SqliteStore(f"sqlite:///{path}", transport=transport)
        transport.declare(QueueSpec("q"))
        publish(transport, "q", *(b"%d" % number for number in range(100)))
        transport.consume(["q"], 0)
        held = transport.receive(1)
        _fill(small_disk)

        def settle(number: int) -> bool:
            try:
                with transport.transaction():
                    store.store([ResultMeta(f"t{number}", "SUCCESS", result="x" * 2000)])
                    transport.ack([held[number]])
            except ConnectionLost as error:
                told.append(str(error))
                return False
            return True

        for number in range(len(held)):
            assert settle(number) or settle(number) or settle(number)
        assert 1 <= len(told) <= 3
        assert all("disk is full" in text for text in told)
        assert transport.queue_state("q").unacked == 0
        assert len(store.get_many([f"t{number}" for number in range(100)])) == 100
        assert _integrity(transport) == "ok"
        store.close()
