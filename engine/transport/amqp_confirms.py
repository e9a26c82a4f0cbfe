"""Publisher confirms: which message of which batch the broker has taken, refused or returned.

Pure bookkeeping. Rules: a ``basic.return`` comes before the confirm of its message, so the confirm of a
returned message changes nothing; a tag is settled once; a batch the caller gave up on may still be settled,
unseen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from engine.codec import Message, Returned
from engine.errors import PublishError, PublishRefused, Unroutable


class _Pending(PublishError):
    """Stands in a batch's outcomes where the confirm has not come yet; never leaves this module's users."""


PENDING = _Pending("not confirmed yet")


class Batch:
    """One publish call: an outcome for each message, in order; ``PENDING`` until it is known."""

    __slots__ = ("messages", "outcomes", "pending")

    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages = messages
        self.outcomes: list[Exception | None] = [PENDING] * len(messages)
        self.pending = len(messages)

    def settle(self, index: int, outcome: Exception | None) -> None:
        if self.outcomes[index] is PENDING:
            self.outcomes[index] = outcome
            self.pending -= 1

    def settle_rest(self, make: Callable[[Message], Exception]) -> None:
        """Give every message still pending the outcome ``make(message)``."""
        for index, outcome in enumerate(self.outcomes):
            if outcome is PENDING:
                self.settle(index, make(self.messages[index]))


class Confirms:
    """The confirm state of one channel, from ``confirm.select`` on."""

    def __init__(self) -> None:
        self._next_tag = 1
        self._lowest = 1
        self._outstanding: dict[int, tuple[Batch, int]] = {}

    def __len__(self) -> int:
        return len(self._outstanding)

    @property
    def idle(self) -> bool:
        """Whether no confirm is on its way."""
        return not self._outstanding

    @property
    def next_tag(self) -> int:
        """Of the message that is sent next."""
        return self._next_tag

    def passed(self) -> None:
        """A message went out and was confirmed while no other was outstanding."""
        self._next_tag += 1

    def sent(self, batch: Batch, start: int, stop: int) -> None:
        """Messages ``start`` to ``stop`` of the batch went out, in order."""
        tag = self._next_tag
        outstanding = self._outstanding
        if not outstanding:
            self._lowest = tag
        for index in range(start, stop):
            outstanding[tag] = (batch, index)
            tag += 1
        self._next_tag = tag

    def acked(self, tag: int, multiple: bool) -> None:
        self._settle(tag, multiple, None)

    def nacked(self, tag: int, multiple: bool) -> None:
        refusal = PublishRefused(
            "the broker refused the message (basic.nack): the queue is full (x-max-length with "
            "x-overflow=reject-publish), or the broker could not store it"
        )
        self._settle(tag, multiple, refusal)

    def returned(self, item: Returned) -> None:
        """The first unsettled message that equals the returned one is unroutable.

        Returns come in publish order, so the first match is the right one; and should equal messages be
        outstanding, they went the same way."""
        came = item.message
        for batch, index in self._outstanding.values():
            message = batch.messages[index]
            if (
                message.routing_key == item.routing_key
                and message.exchange == item.exchange
                and batch.outcomes[index] is PENDING
                and message.correlation_id == came.correlation_id
                and message.message_id == came.message_id
                and message.body == came.body
            ):
                batch.settle(index, unroutable(item))
                return

    def abandon(self) -> list[tuple[Batch, int]]:
        """The channel is gone: forget all; what was outstanding, in publish order."""
        outstanding = list(self._outstanding.values())
        self._outstanding.clear()
        return outstanding

    def _settle(self, tag: int, multiple: bool, outcome: Exception | None) -> None:
        outstanding = self._outstanding
        if not multiple:
            self._settle_one(outstanding.pop(tag, None), outcome)
            return
        last = tag or self._next_tag - 1  # tag 0 with multiple means all that are outstanding
        for each in range(self._lowest, last + 1):
            self._settle_one(outstanding.pop(each, None), outcome)
        self._lowest = max(self._lowest, last + 1)

    @staticmethod
    def _settle_one(entry: tuple[Batch, int] | None, outcome: Exception | None) -> None:
        if entry is not None:
            entry[0].settle(entry[1], outcome)


def unroutable(item: Returned) -> Unroutable:
    exchange = f"exchange {item.exchange!r}" if item.exchange else "the default exchange"
    return Unroutable(
        f"no queue takes routing key {item.routing_key!r} on {exchange} ({item.reply_text}): declare the "
        "queue, or check the route"
    )
