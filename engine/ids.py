"""Random ids (version-4 UUIDs as text), made a block at a time so that each costs a small part of a µs.

A forked process drops the block it inherited: two processes never give out the same id.
"""

from __future__ import annotations

import os

from engine.codec import format_ids

_BLOCK = 4096  #: random bytes asked for at once; 16 make an id

_ids: list[str] = []


def new_id() -> str:
    """A new id, e.g. ``3f2b8c1e-9d4a-4c6b-8e21-5a7f0c9d1e42``."""
    try:
        return _ids.pop()
    except IndexError:
        fresh = format_ids(os.urandom(_BLOCK))
        found = fresh.pop()
        _ids.extend(fresh)
        return found


os.register_at_fork(after_in_child=_ids.clear)
