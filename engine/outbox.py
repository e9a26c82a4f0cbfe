"""A producer that publishes nothing: it keeps the messages, for a batch or for a worker to send later."""

from __future__ import annotations

from collections.abc import Sequence

from engine.codec import Message
from engine.publish_retry import RetryPolicy
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
