"""What the AMQP state machine is made of: its states, its channels, and the events it hands up."""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass

from engine.codec import Delivery, Method
from engine.transport.amqp_confirms import Confirms


class State(enum.Enum):
    """Where the connection stands."""

    START = "waiting for connection.start"
    TUNE = "waiting for connection.tune"
    OPENING = "waiting for connection.open-ok"
    OPEN = "open"
    CLOSING = "waiting for connection.close-ok"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class ChannelClosed:
    """The server closed a channel; the method that caused it is (class_id, method_id)."""

    channel: int
    code: int
    text: str
    class_id: int
    method_id: int


@dataclass(frozen=True, slots=True)
class ConsumerCancelled:
    """The server ended a consumer: its queue was deleted, or failed over."""

    consumer_tag: str


Event = ChannelClosed | ConsumerCancelled
Reply = Method | Delivery | ChannelClosed


class Channel:
    """One open channel: the replies that came, and its confirms where they were selected."""

    __slots__ = ("closed", "confirms", "getting", "replies")

    def __init__(self) -> None:
        self.replies: deque[Reply] = deque()
        self.confirms: Confirms | None = None
        self.getting = 0  #: basic.get sent and not answered
        self.closed: ChannelClosed | None = None
