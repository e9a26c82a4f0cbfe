"""Gives back what nobody holds any more: lapsed leases, what has fallen due, kombu's timeouts, dead siblings.

One script does it all for the fleet, at a bounded rate. Beside it each host looks after its own: the owner
tokens of this host whose process is gone are released at once (redis_owner.py), so a killed child's messages
run again in a moment, not after a lease. A process that is new looks at once, for it may be the dead one's
successor; from then on one of the host's processes does so four times a second, as each asks once a second.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from engine.transport import redis_scripts as scripts
from engine.transport.base import TransportOptions
from engine.transport.redis_layout import Layout
from engine.transport.redis_owner import host_id, is_dead
from engine.transport.redis_session import RedisSession, Word

logger = logging.getLogger("engine.transport.redis")

_PAUSE_MS = 500  #: between two looks at the fleet's leases
_AT_ONCE = 500  #: messages that one call gives back; the next call goes on
_PAUSE_OF_HOST_MS = 250  #: between two looks at a host's owners


class RedisRecovery:
    """One transport's part in it."""

    def __init__(self, layout: Layout, options: TransportOptions) -> None:
        self._layout = layout
        self._host = host_id()
        self._keys = [
            layout.recovered,
            layout.owners,
            layout.unacked,
            layout.unacked_index,
            layout.expiring,
            layout.queues,
            *((layout.host(self._host), layout.host_looked(self._host)) if self._host else ()),
        ]
        self._args: list[Word] = [
            f"{_PAUSE_MS}:0",  # now; from the first answer on not more often than the host has to
            options.visibility_timeout,
            _AT_ONCE,
            layout.claims_prefix,
            layout.delayed_prefix,
            layout.bindings(""),
            layout.global_keyprefix,
            layout.sep,
            *layout.priority_steps,
        ]
        self._last_mono_s = float("-inf")
        self._due_mono_s = float("inf")
        self._suspects: list[bytes] = []

    def is_due(self, every_s: float) -> bool:
        now = time.monotonic()
        return now >= min(self._last_mono_s + every_s, self._due_mono_s)

    def next_due_s(self) -> float:
        """Seconds until the next message falls due, as known; a little more than that, never less."""
        return max(0.0, self._due_mono_s - time.monotonic())

    def recover(self, session: RedisSession) -> int:
        """How many messages went back to their lists."""
        self._begin()
        restored = self._heard(session.run(scripts.RECOVER, self._keys, self._args))
        return restored + self.bury_siblings(session)

    def recover_later(self, session: RedisSession) -> None:
        """The same before whatever is asked next. Then it is `bury_siblings`' turn."""
        self._begin()
        session.run_later(scripts.RECOVER, self._keys, self._args, self._heard)

    def _begin(self) -> None:
        self._last_mono_s, self._due_mono_s = time.monotonic(), float("inf")

    def _heard(self, answer: list[Any]) -> int:
        restored, wait_ms, self._suspects = answer
        self._args[0] = f"{_PAUSE_MS}:{_PAUSE_OF_HOST_MS}"
        self._due_mono_s = time.monotonic() + max(0.005, wait_ms / 1000) if wait_ms >= 0 else float("inf")
        return int(restored)

    def bury_siblings(self, session: RedisSession) -> int:
        """Give back what the dead of this host held, if it is this process's turn to look; how many."""
        if not self._suspects:
            return 0
        suspects, self._suspects = self._suspects, []
        layout, restored = self._layout, 0
        host = layout.host(self._host)
        for raw in suspects:
            if is_dead(raw.decode(errors="replace")):
                claims = layout.claims_prefix.encode() + raw
                keys: list[Word] = [layout.owners, layout.unacked, layout.unacked_index, claims, host]
                count = session.run(scripts.RELEASE, keys, [raw])
                restored += count
                if count:
                    logger.warning("a process of this host died: %d messages it held are given back", count)
        return restored
