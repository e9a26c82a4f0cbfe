"""Random ids (version-4 UUIDs as text), made from a block of random bytes so that each costs well under a µs.

A forked process drops the block it inherited: two processes never give out the same id.
"""

from __future__ import annotations

import os

_BLOCK = 4096
_HEX = "0123456789abcdef"
_VARIANT = "89ab"

_words: list[str] = []


def _refill() -> str:
    digits = os.urandom(_BLOCK).hex()
    fresh = [digits[start : start + 32] for start in range(0, len(digits), 32)]
    word = fresh.pop()
    _words.extend(fresh)
    return word


def new_id() -> str:
    """A new id, e.g. ``3f2b8c1e-9d4a-4c6b-8e21-5a7f0c9d1e42``."""
    try:
        word = _words.pop()
    except IndexError:
        word = _refill()
    variant = _VARIANT[_HEX.index(word[16]) & 3]
    return f"{word[:8]}-{word[8:12]}-4{word[13:16]}-{variant}{word[17:20]}-{word[20:]}"


os.register_at_fork(after_in_child=_words.clear)
