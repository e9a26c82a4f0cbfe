"""Producers that keep the messages they are given: for a worker to send later, or to send many together."""

from __future__ import annotations

from collections.abc import Sequence

from engine.codec import Message
from engine.publish_retry import RetryPolicy
from engine.publish_stream import PublishStream
from engine.sender import Declarable


class Outbox:
    """Stands where a producer does; ``messages`` and what they need declared pile up."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.declared: dict[str, Declarable] = {}
        self._declared_last: Sequence[Declarable] = ()

    @property
    def sender(self) -> Outbox:
        return self

    def send_one(
        self,
        message: Message,
        declare: Sequence[Declarable],
        mandatory: bool,
        policy: RetryPolicy,
        timeout: float | None,
    ) -> None:
        self.messages.append(message)
        if declare is not self._declared_last:  # one task's calls share it
            self._declared_last = declare
            for entity in declare:
                self.declared[entity.name] = entity


class StreamBox(Outbox):
    """Sends what it was given whenever ``every`` messages have piled up, and the rest at ``flush``."""

    def __init__(self, stream: PublishStream, every: int) -> None:
        super().__init__()
        self._stream = stream
        self._every = every

    def send_one(
        self,
        message: Message,
        declare: Sequence[Declarable],
        mandatory: bool,
        policy: RetryPolicy,
        timeout: float | None,
    ) -> None:
        super().send_one(message, declare, mandatory, policy, timeout)
        if len(self.messages) >= self._every:
            self.flush()

    def flush(self) -> None:
        """Messages for one queue by name must find it; others may find nobody, as everywhere."""
        messages, self.messages = self.messages, []
        declare = tuple(self.declared.values())
        for direct in (True, False):
            group = [message for message in messages if (message.exchange == "") is direct]
            if group:
                self._stream.push(group, declare, direct)
