"""Ids: UUIDs, all different, in forked processes too."""

from __future__ import annotations

import uuid
from pathlib import Path

from engine.ids import new_id
from tests.forked import in_child


def test_ids_are_uuids_and_differ_after_a_fork(tmp_path: Path) -> None:
    ids = [new_id() for _ in range(5000)]
    assert len(set(ids)) == 5000
    assert all(uuid.UUID(found).version == 4 and str(uuid.UUID(found)) == found for found in ids[:500])
    assert {uuid.UUID(found).variant for found in ids} == {uuid.RFC_4122}

    def child() -> bool:
        (tmp_path / "ids").write_text("\n".join(new_id() for _ in range(300)))
        return True

    assert in_child(child)
    assert not set((tmp_path / "ids").read_text().split()) & {new_id() for _ in range(300)}
