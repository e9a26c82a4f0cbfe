"""Gives back what nobody holds any more: lapsed leases, what has fallen due, kombu's timeouts, dead siblings.

One script does it all for the fleet, at a bounded rate. Beside it each process looks after its own host: the
owner tokens of this host whose process is gone are released at once (redis_owner.py), so a killed child's
messages run again in a moment, not after a lease.
"""

from __future__ import annotations

import logging
import time

from engine.transport import redis_scripts as scripts
from engine.transport.base import TransportOptions
from engine.transport.redis_layout import Layout
from engine.transport.redis_owner import host_id, is_dead
from engine.transport.redis_session import RedisSession, Word

logger = logging.getLogger("engine.transport.redis")

_PAUSE_MS = 500  #: between two looks at the fleet's leases
_AT_ONCE = 500  #: messages that one call gives back; the next call goes on
_SIBLINGS_EVERY_S = 1.0


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
        ]
        self._args: list[Word] = [
            _PAUSE_MS,
            options.visibility_timeout,
            _AT_ONCE,
            layout.claims_prefix,
            layout.delayed_prefix,
            layout.bindings(""),
            layout.global_keyprefix,
            layout.sep,
            *layout.priority_steps,
        ]
        self._last_mono_s = self._siblings_mono_s = float("-inf")
        self._due_mono_s = float("inf")

    def is_due(self, every_s: float) -> bool:
        now = time.monotonic()
        return now >= min(self._last_mono_s + every_s, self._due_mono_s)

    def next_due_s(self) -> float:
        """Seconds until the next message falls due, as known; a little more than that, never less."""
        return max(0.0, self._due_mono_s - time.monotonic())

    def recover(self, session: RedisSession) -> int:
        """How many messages went back to their lists."""
        restored, wait_ms = session.run(scripts.RECOVER, self._keys, self._args)
        now = self._last_mono_s = time.monotonic()
        self._due_mono_s = now + max(0.005, wait_ms / 1000) if wait_ms >= 0 else float("inf")
        if self._host and now - self._siblings_mono_s >= _SIBLINGS_EVERY_S:
            self._siblings_mono_s = now
            restored += self._bury_siblings(session)
        return int(restored)

    def _bury_siblings(self, session: RedisSession) -> int:
        layout, restored = self._layout, 0
        host = layout.host(self._host)
        for raw in session.command("SMEMBERS", host):
            token = raw.decode()
            if is_dead(token):
                claims = layout.claims_prefix + token
                keys = [layout.owners, layout.unacked, layout.unacked_index, claims, host]
                count = session.run(scripts.RELEASE, keys, [token])
                restored += count
                if count:
                    logger.warning("a process of this host died: %d messages it held are given back", count)
        return restored
