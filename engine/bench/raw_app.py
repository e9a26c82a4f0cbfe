"""The raw side's publishing process: sends bytes that were made ahead of time."""

from __future__ import annotations

from collections.abc import Sequence

from engine.bench.naps import Nap
from engine.bench.plan import Plan
from engine.bench.raw_common import Sender, broker_module, message_for
from engine.bench.tasks import ADD, BEGIN


class RawClient:
    """Publishes bytes."""

    def __init__(self, plan: Plan) -> None:
        self._sender: Sender = broker_module(plan).Sender(plan)
        self._add = self._sender.encode(message_for(plan, ADD))
        self._begin = self._sender.encode(message_for(plan, BEGIN))

    def publish(self, count: int) -> None:
        self._sender.one_by_one(self._add, count)

    def publish_many(self, count: int, batch: int) -> None:
        self._sender.many(self._add, count, batch)

    def begin(self) -> None:
        self._sender.one_by_one(self._begin, 1)

    def naps(self, naps: Sequence[Nap]) -> None:
        raise NotImplementedError("raw runs no tasks")

    def hold(self) -> None:
        """Its worker's processes hold themselves."""

    def call(self, timeout_s: float) -> None:
        raise NotImplementedError("raw keeps no results")

    def codec(self, count: int) -> tuple[float, float]:
        raise NotImplementedError("raw encodes nothing")

    def close(self) -> None:
        self._sender.close()


client = RawClient(Plan.from_env())
