"""A Redis connection with our scripts loaded, whose replies may be read later. Knows no queues.

Acknowledgements need no answer before the next claim: `later` sends now and keeps what is to be done with the
reply; the next call that needs an answer reads all replies in order. So a batch costs one round trip.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from engine.errors import ConnectionFailed, ConnectionLost, TransportError
from engine.transport import redis_scripts
from engine.transport.redis_lua import Script
from engine.transport.redis_wire import RedisWire, pack

logger = logging.getLogger("engine.transport.redis")

Word = bytes | str | int | float
OnReply = Callable[[Any], object]

#: error replies after which this connection is of no use: another server has to be found, or this one has to
#: recover (MISCONF: it cannot save; NOREPLICAS: too few follow it; BUSY: an endless script)
_GONE = (
    *("READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "NOAUTH"),
    *("MISCONF", "NOREPLICAS", "BUSY "),
)

_warned_policies: set[str] = set()


def evalsha(script: Script, keys: Sequence[Word], args: Sequence[Word]) -> bytes:
    return pack("EVALSHA", script.sha, len(keys), *keys, *args)


class RedisSession:
    """See the module's rules. After ConnectionLost it is dead; open another."""

    def __init__(self, wire: RedisWire) -> None:
        self.wire = wire
        self._owed: deque[OnReply] = deque()
        self.tracks = False  #: the server tells when a list that was found empty changes
        self.durability = "unknown"  #: what survives a crash of the server, in words

    def connect(self) -> None:
        """Open, load the scripts, ask for invalidations, look at the server's memory policy."""
        self.wire.connect()
        commands = [pack("SCRIPT", "LOAD", script.source) for script in redis_scripts.ALL]
        commands.append(pack("CLIENT", "TRACKING", "ON", "OPTIN", "NOLOOP"))
        commands += [pack("CONFIG", "GET", name) for name in ("maxmemory-policy", "append*", "save")]
        try:
            self.wire.send(b"".join(commands))
            *loaded, tracking, policy, append, save = self.wire.replies(
                len(commands), self.wire.connect_timeout
            )
        except ConnectionLost as error:
            raise ConnectionFailed(str(error)) from error
        for answer in loaded:
            if self.wire.is_error(answer):
                self.wire.abandon()
                raise ConnectionFailed(f"Redis at {self.wire.address} refused a script: {answer}")
        self.tracks = not self.wire.is_error(tracking)
        if not self.tracks:
            logger.warning(
                "Redis at %s refuses CLIENT TRACKING (%s): messages are looked for once a second",
                self.wire.address,
                tracking,
            )
        if isinstance(policy, dict) and isinstance(append, dict) and isinstance(save, dict):
            self._inspect({**policy, **append, **save})

    def _inspect(self, config: dict[bytes, bytes]) -> None:
        """Warn once a process of a server that throws queued messages away; say what survives a crash."""
        policy = config.get(b"maxmemory-policy", b"noeviction").decode()
        shown = str(self.wire.address)
        if policy != "noeviction" and shown not in _warned_policies:
            _warned_policies.add(shown)
            logger.warning(
                "Redis at %s has maxmemory-policy %s: a full memory may delete queues: set noeviction.",
                shown,
                policy,
            )
        if config.get(b"appendonly") == b"yes":
            self.durability = f"append-only file, fsync {config.get(b'appendfsync', b'?').decode()}"
        else:
            self.durability = "snapshots only" if config.get(b"save") else "memory only"

    # -- calls -----------------------------------------------------------------------------------------

    def later(self, data: bytes, on_reply: OnReply) -> None:
        """Send one command; its reply is given to ``on_reply`` when it is read."""
        self.wire.send(data)
        self._owed.append(on_reply)

    def owe(self, count: int, on_reply: OnReply) -> None:
        """Somebody else sent ``count`` commands on this connection."""
        self._owed.extend([on_reply] * count)

    @property
    def owed(self) -> int:
        """How many replies are still to be read."""
        return len(self._owed)

    def settle(self, timeout: float | None = None) -> None:
        """Read every reply that is owed."""
        while self._owed:
            self._settle(len(self._owed), timeout)

    def _settle(self, count: int, timeout: float | None) -> None:
        for _ in range(count):
            answer = self.wire.reply(timeout)
            self._owed.popleft()(answer)

    def ask(self, *commands: bytes, timeout: float | None = None) -> list[Any]:
        """Send packed commands, one reply each; error replies are returned as values."""
        owed = len(self._owed)
        try:
            self.wire.send(b"".join(commands))
            self._settle(owed, timeout)  # what these ask again is answered after our commands
            return self.wire.replies(len(commands), timeout)
        except BaseException:  # a signal handler's, perhaps between two of these lines
            self.wire.abandon()
            raise

    def command(self, *words: Word) -> Any:
        """One command. Raises TransportError for an error reply."""
        return self.checked(self.ask(pack(*words))[0])

    def run(self, script: Script, keys: Sequence[Word], args: Sequence[Word]) -> Any:
        """One script. Raises TransportError for an error reply."""
        [answer] = self.ask(evalsha(script, keys, args))
        if self.is_missing(answer):
            [_, answer] = self.ask(pack("SCRIPT", "LOAD", script.source), evalsha(script, keys, args))
        return self.checked(answer)

    def run_later(
        self, script: Script, keys: Sequence[Word], args: Sequence[Word], on_reply: OnReply
    ) -> None:
        """One script, its reply read later. An error reply ends the connection: else nobody would give back
        what was claimed over it."""

        def look(answer: Any) -> None:
            if self.is_missing(answer):
                self.wire.send(pack("SCRIPT", "LOAD", script.source))
                self._owed.append(lambda loaded: None)
                self.run_later(script, keys, args, on_reply)
            elif self.wire.is_error(answer):
                self.wire.abandon()
                raise ConnectionLost(f"Redis at {self.wire.address} refused a script: {answer}")
            else:
                on_reply(answer)

        self.later(evalsha(script, keys, args), look)

    def is_missing(self, answer: Any) -> bool:
        """Whether the script was not known: somebody flushed them, or the server was replaced."""
        return self.wire.is_error(answer) and str(answer).startswith("NOSCRIPT")

    def checked(self, answer: Any) -> Any:
        """The answer; raises ConnectionLost or TransportError when it is an error reply."""
        if not self.wire.is_error(answer):
            return answer
        text = str(answer)
        if text.startswith(_GONE) or any(f" -{code}" in text for code in _GONE):  # the latter before Redis 7
            self.wire.abandon()
            raise ConnectionLost(f"Redis at {self.wire.address} cannot serve us any more: {text}")
        raise TransportError(f"Redis at {self.wire.address} refused a command: {text}")

    def close(self) -> None:
        """Read what is owed, then close. Never raises."""
        if self.wire.connected:
            try:
                self.settle(self.wire.connect_timeout)
            except TransportError as error:
                logger.debug("closing: %s", error)
        self.abandon()

    def abandon(self) -> None:
        """Close the descriptor without a word. Never raises."""
        self.wire.abandon()
        self._owed.clear()
