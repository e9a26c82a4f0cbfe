"""What a starting worker asks the others: which tasks were revoked before it came (Celery's mingle).

A ``hello`` goes to all nodes; their answers come to the control queue, which is bound for them too. Nothing
waits for them: an answer is told from a command by its ticket.
"""

from __future__ import annotations

import time
from typing import Any

from engine.codec import Delivery, Message
from engine.ids import new_id
from engine.mailbox import Command, Mailbox
from engine.message_body import write_body

#: what Celery gives it; nodes are free to answer later
_EXPIRES_S = 1.0


class Greeting:
    """One question to all nodes. ``oid``: the name under which the answers come."""

    def __init__(self, mailbox: Mailbox, node: str) -> None:
        self.oid = new_id()
        self._ticket = new_id()
        self._mailbox = mailbox
        self._node = node

    def message(self, known: list[str], serializer: str, clock: int) -> Message:
        """What is sent; ``known`` are the revoked ids that this worker knows itself."""
        hello = Command(
            "hello",
            {"from_node": self._node, "revoked": known},
            ticket=self._ticket,
            reply_to=(self._mailbox.reply_exchange.name, self.oid),
        )
        body, content_type, encoding, _ = write_body(hello.to_body(), serializer)
        return Message(
            body,
            content_type=content_type,
            content_encoding=encoding,
            exchange=self._mailbox.exchange.name,
            delivery_mode=1,
            headers={"clock": clock, "expires": time.time() + _EXPIRES_S},
        )

    def is_answered_by(self, delivery: Delivery) -> bool:
        return bool(delivery.header("ticket") == self._ticket)

    @staticmethod
    def ids_in(body: Any) -> list[str]:
        """The ids that an answer tells: a list since Celery 5.7, a mapping of ids to times before."""
        answers = body.values() if isinstance(body, dict) else ()
        told = [answer.get("revoked") for answer in answers if isinstance(answer, dict)]
        return [one for ids in told if isinstance(ids, (list, dict)) for one in ids if isinstance(one, str)]
