"""What this process holds of a Redis: claiming, acknowledging, giving back and parking under one owner token.

A delivery's ``context`` is the token it was claimed under; an acknowledgement names that token's claims, so
one that comes after the lease was lost finds nothing to acknowledge. Every epoch has a token of its own.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from typing import Any

from engine.codec import Delivery, decode_claims, held_tags
from engine.errors import DecodeError
from engine.transport import redis_scripts as scripts
from engine.transport.base import TransportOptions
from engine.transport.redis_layout import Layout
from engine.transport.redis_lease import renewal_of
from engine.transport.redis_lua import Script
from engine.transport.redis_owner import host_id, new_token
from engine.transport.redis_publish import ending
from engine.transport.redis_session import RedisSession, Word
from engine.transport.redis_wire import pack, pack_word

logger = logging.getLogger("engine.transport.redis")

_MOST_AT_ONCE = 500  #: messages a claim or an acknowledgement names; Lua unpacks a few thousand words at most
_REGISTER_EVERY_S = 4.0  #: while waiting: a place is good for 12 s
_CACHING = pack("CLIENT", "CACHING", "YES")


class _Reader:
    """The claim command for one order of the queues, packed but for its limit."""

    __slots__ = ("_endings", "_head", "_owner", "queues", "watched")

    def __init__(
        self, queues: Sequence[str], keys: Sequence[str], token: str, lease_s: float, layout: Layout
    ) -> None:
        self.queues = tuple(queues)
        lists = layout.lists_of(queues)
        #: what is read so that the server tells of its change: [for one in the second row, for a watcher]
        self.watched = (pack("EXISTS", layout.batons + token), pack("EXISTS", *lists))
        words = [*keys, *layout.turn_keys(queues), *lists]
        endings = b"".join(pack_word(ending(queue)) for queue in queues)
        count = 3 + len(words) + 6 + len(queues)
        parts: list[Word] = [b"EVALSHA", scripts.CLAIM.sha, len(words), *words]
        self._head = b"*%d\r\n" % count + b"".join(map(pack_word, parts))
        self._owner = pack_word(token) + pack_word(lease_s)
        self._endings = pack_word(layout.batons) + endings

    def command(self, limit: int, mode: int, register: int) -> bytes:
        modes = b"$1\r\n%d\r\n$1\r\n%d\r\n" % (mode, register)
        return self._head + pack_word(limit) + self._owner + modes + self._endings


class RedisClaims:
    """One transport's claims."""

    def __init__(self, layout: Layout, options: TransportOptions) -> None:
        self._layout = layout
        self._lease_s = options.lease
        self._visibility_s = options.visibility_timeout
        #: a lease, and kombu's visibility timeout, are renewed after a third of the shorter one
        self.renew_every_s = min(options.lease, options.visibility_timeout) / 3
        self._strategy = str(options.extra.get("queue_order_strategy", "round_robin"))
        self._host = host_id()
        self.token: str | None = None  #: what our claims are recorded under
        self._known = False  #: it has been introduced to this host's siblings
        self._epoch = 0
        self._held: set[str] = set()
        self._order: list[str] = []
        self._readers: dict[tuple[str, ...], _Reader] = {}
        self._renewed_mono_s = 0.0
        self._lost = False
        self._waiting = False  #: the server was told that we wait
        self._watching = 1  #: 1: our place is at the lists, 0: in the second row
        self._registered_mono_s = float("-inf")

    # -- the owner -------------------------------------------------------------------------------------

    def begin(self, session: RedisSession, epoch: int) -> None:
        """A new owner; what an older one still holds is given back by `release` or falls to the reaper."""
        self._epoch = epoch
        self._waiting = False
        self._held.clear()
        self.token = new_token(self._host)
        self._known = self._lost = False
        self._readers.clear()

    def _introduce(self, session: RedisSession) -> None:
        """Before the first claim: tell this host's siblings who is to be looked after."""
        self._known = True
        if self._host:
            # refused when the memory is full: then a lease has to end before a sibling takes over
            session.ask(pack("SADD", self._layout.host(self._host), str(self.token)))

    def release(self, session: RedisSession) -> int:
        """Give everything back and end the ownership, also one of an earlier connection."""
        token = self.token
        self._held.clear()
        if token is None or not self._known:
            return 0
        self.leave(session)
        layout = self._layout
        keys = [layout.owners, layout.unacked, layout.unacked_index, layout.claims_prefix + token]
        count = int(session.run(scripts.RELEASE, [*keys, layout.host(self._host)], [token]))
        self.token = None  # not before: a server that refused it is asked again
        return count

    def disown(self) -> None:
        """The token belongs to another process (our parent): never touch it."""
        self.token = None
        self._held.clear()

    @property
    def renewal(self) -> bytes:
        layout = self._layout
        claims = layout.claims_prefix + str(self.token)
        return renewal_of(layout.owners, claims, layout.unacked_index, str(self.token), self._lease_s)

    def renew(self, session: RedisSession) -> None:
        """Renew now, and hear the answer; the script is loaded again where the server has forgotten it."""
        layout = self._layout
        keys = [layout.owners, layout.claims_prefix + str(self.token), layout.unacked_index]
        self.on_renewed(session.run(scripts.RENEW, keys, [str(self.token), self._lease_s]))
        self._renewed_mono_s = time.monotonic()

    def renew_if_due(self, session: RedisSession) -> None:
        """Renew, when something is held and a third of the lease has passed."""
        now = time.monotonic()
        if self._held and now - self._renewed_mono_s >= self.renew_every_s:
            self._renewed_mono_s = now
            session.later(self.renewal, self.on_renewed)

    def on_renewed(self, answer: Any) -> None:
        """The answer to a renewal. After a loss the next claim makes us an owner again."""
        lost, self._lost = self._lost, answer == 0 and bool(self._held)
        if self._lost and not lost:
            logger.warning(
                "the lease on %d messages was lost (no renewal for %g s): others may run them too",
                len(self._held),
                self._lease_s,
            )

    # -- claiming --------------------------------------------------------------------------------------

    def read(self, session: RedisSession, queues: Sequence[str]) -> None:
        """The queues to claim from, in their order."""
        self.leave(session)
        self._order = sorted(queues) if self._strategy == "sorted" else list(queues)
        self._readers.clear()

    def room(self, prefetch: int, limit: int) -> int:
        """How many more may be claimed now. A prefetch of 0 is no bound."""
        room = prefetch - len(self._held) if prefetch else _MOST_AT_ONCE
        return min(room, limit or room, _MOST_AT_ONCE)

    def claim(self, session: RedisSession, limit: int, wait: bool) -> list[Delivery]:
        """Up to ``limit``. With ``wait`` the server tells when there may be some, if there are none now."""
        found = self._claim(session, self._reader(self._order), limit, wait)
        if found and self._strategy == "round_robin" and len(self._order) > 1:
            served = found[-1].queue
            self._order.remove(served)
            self._order.append(served)
        return found

    def claim_one(self, session: RedisSession, queue: str) -> Delivery | None:
        self.leave(session)
        found = self._claim(session, self._reader([queue]), 1, False)
        return found[0] if found else None

    def woken(self) -> None:
        """What was waited for has changed: our place among the waiting has to be taken anew."""
        self._registered_mono_s = float("-inf")

    def leave(self, session: RedisSession) -> None:
        """Wait no more: if we watched the lists, somebody else does from now on."""
        if self._waiting:
            self._waiting = False
            keys = self._layout.turn_keys(self._order)
            session.run(scripts.LEAVE, keys, [str(self.token), self._layout.batons])

    def _reader(self, queues: Sequence[str]) -> _Reader:
        key = tuple(queues)
        reader = self._readers.get(key)
        if reader is None:
            layout, token = self._layout, str(self.token)
            if len(self._readers) > 64:
                self._readers.clear()
            keys = [layout.unacked, layout.unacked_index, layout.claims_prefix + token, layout.owners]
            reader = self._readers[key] = _Reader(key, keys, token, self._lease_s, layout)
        return reader

    def _claim(self, session: RedisSession, reader: _Reader, limit: int, wait: bool) -> list[Delivery]:
        if not self._known:
            self._introduce(session)
        now = time.monotonic()
        register = now - self._registered_mono_s >= _REGISTER_EVERY_S
        command = reader.command(limit, 1 if wait else 2 if self._waiting else 0, register)
        flat = self._ask_watching(session, reader, command) if wait else self._ask(session, command)
        self._waiting = len(flat) == 1
        if not self._waiting:
            self._registered_mono_s = float("-inf")
        elif register:
            self._registered_mono_s = now
        if len(flat) <= 1:
            return []
        self._renewed_mono_s = now
        return decode_claims(flat, reader.queues, self._epoch, self.token, self._held, _log_unreadable)

    def _ask(self, session: RedisSession, *commands: bytes) -> list[Any]:
        """The answer to the last command, a claim."""
        answer = session.ask(*commands)[-1]
        if session.is_missing(answer):
            answer = session.ask(pack("SCRIPT", "LOAD", scripts.CLAIM.source), *commands)[-1]
        found: list[Any] = session.checked(answer)
        return found

    def _ask_watching(self, session: RedisSession, reader: _Reader, command: bytes) -> list[Any]:
        """Claim; if there is nothing, the server tells of a change since just before that claim.

        What we are to watch is only known from the answer: assumed to be as last time, else asked again."""
        flat = self._ask(session, _CACHING, reader.watched[self._watching], command)
        for _ in range(2):
            if len(flat) != 1 or flat[0] == self._watching:
                break
            self._watching = flat[0]
            flat = self._ask(session, _CACHING, reader.watched[self._watching], command)
        return flat

    # -- settling --------------------------------------------------------------------------------------

    def ack(self, session: RedisSession, deliveries: Sequence[Delivery]) -> None:
        self._settle(session, scripts.ACK, deliveries)

    def give_back(self, session: RedisSession, deliveries: Sequence[Delivery]) -> None:
        self._settle(session, scripts.GIVE_BACK, deliveries)

    def _settle(self, session: RedisSession, script: Script, deliveries: Sequence[Delivery]) -> None:
        for token, tags in self._by_token(deliveries).items():
            for start in range(0, len(tags), _MOST_AT_ONCE):
                part = tags[start : start + _MOST_AT_ONCE]
                session.run_later(script, self._settle_keys(token), part, self._on_settled)

    def _by_token(self, deliveries: Sequence[Delivery]) -> dict[str, list[str]]:
        """Tags of this epoch by owner; they are not held from now on."""
        return held_tags(deliveries, self._epoch, self._held)

    def _settle_keys(self, token: str) -> list[str]:
        layout = self._layout
        return [layout.unacked, layout.unacked_index, layout.claims_prefix + token]

    def _on_settled(self, foreign: Any) -> None:
        if foreign:
            logger.warning("%d messages were not ours to settle any more: their lease had been lost", foreign)

    def dead_letter(self, session: RedisSession, delivery: Delivery, lists: Sequence[str]) -> None:
        """Move it to these lists, with RabbitMQ's names for where and why it died first."""
        told = {
            "x-first-death-queue": delivery.queue,
            "x-first-death-exchange": delivery.exchange,
            "x-first-death-reason": "rejected",
        }
        for token, [tag] in self._by_token([delivery]).items():
            keys = [*self._settle_keys(token), *lists]
            session.run_later(scripts.DEAD_LETTER, keys, [tag, json.dumps(told)[1:-1]], self._on_settled)

    def park(self, session: RedisSession, delivery: Delivery, due_at: float) -> None:
        for token, [tag] in self._by_token([delivery]).items():
            keys = [*self._settle_keys(token), self._layout.delayed_prefix + delivery.queue]
            self._on_settled(session.run(scripts.PARK, keys, [tag, repr(due_at), self._visibility_s]))


def _log_unreadable(queue: str, error: DecodeError) -> None:
    logger.error("a message in %s is not one of kombu's: %s", queue, error)
