"""What became of a message's earlier delivery: the question asked of every redelivered one.

Three sources, looked at in this order: the other children's slots (one of them says that it runs this task:
it is at work, or it died a moment ago and the supervisor is about to say so); the tombstones the supervisor
sent; the ids finished lately. The supervisor sends its verdict before it clears a dead child's slot, so
looking at the slots first and reading the messages after cannot miss one.

The ids that were revoked come last, and are looked at for every message, as soon as there is one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from engine.codec import Delivery, TaskMessage
from engine.worker.finished import Finished, key_of
from engine.worker.quarantine import CRASHED, Tombstone
from engine.worker.revoked import RevokedIds
from engine.worker.scoreboard import Scoreboard

#: how long a dead sibling's slot may take to be cleared; one that is alive is not waited for longer
_VERDICT_WAIT_S = 0.1
_STEP_S = 0.005


@dataclass(frozen=True, slots=True)
class FinishedBefore:
    """It was finished; only its acknowledgement was lost."""


FINISHED_BEFORE = FinishedBefore()


@dataclass(frozen=True, slots=True)
class WasRevoked:
    """It must not be run."""


WAS_REVOKED = WasRevoked()


@dataclass(slots=True)
class Fate:
    """The memory of one child, and its view of what the others share.

    ``read_control`` reads the supervisor's messages, which fill ``tombstones``."""

    scoreboard: Scoreboard
    finished: Finished
    own_slot: int
    rings: int
    read_control: Callable[[], None]
    revoked_ids: RevokedIds
    tombstones: dict[str, Tombstone] = field(default_factory=dict)
    _snapshot: frozenset[bytes] | None = None
    revoked: dict[str, None] = field(init=False)  #: the keys of ``revoked_ids``: empty nearly always

    def __post_init__(self) -> None:
        self.revoked = self.revoked_ids.keys

    def next_batch(self) -> None:
        """New deliveries came: look at the finished ids anew when one of them is a redelivery."""
        self._snapshot = None
        self.revoked_ids.refresh()

    def of(self, message: TaskMessage, redelivered: bool) -> Tombstone | FinishedBefore | WasRevoked | None:
        """What is known; None: run it."""
        if redelivered:
            self._await_verdict(message.id.encode("utf-8", "replace"))
        tombstone = self.tombstones.get(message.id)
        if tombstone is not None and tombstone.kind != CRASHED:
            return tombstone
        if tombstone is None and redelivered and self._was_finished(message):
            return FINISHED_BEFORE
        return WAS_REVOKED if self.revoked and message.id in self.revoked_ids else tombstone

    def _was_finished(self, message: TaskMessage) -> bool:
        if self._snapshot is None:
            self._snapshot = self.finished.snapshot(self.rings)
        return key_of(message.id, message.retries) in self._snapshot

    def sent_back(self, deliveries: Iterable[Delivery]) -> None:
        """These go back to their queues and are to be run when they come again: an earlier message of the
        same id may have been finished, and must not be taken for them."""
        keys = [_key(one) for one in deliveries if not one.redelivered]
        if keys:
            self.finished.forget(self.rings, keys)

    def _await_verdict(self, task_id: bytes) -> None:
        deadline = time.monotonic() + _VERDICT_WAIT_S
        while self.scoreboard.running_elsewhere(task_id, self.own_slot) and time.monotonic() < deadline:
            time.sleep(_STEP_S)
        self.read_control()


def _key(delivery: Delivery) -> bytes:
    """As `key_of` its task message, which has not been read."""
    task_id, retries = delivery.header("id"), delivery.header("retries")
    return key_of(task_id, retries if isinstance(retries, int) else 0) if isinstance(task_id, str) else b""
