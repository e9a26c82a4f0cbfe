"""A whole child without a broker: deliveries that were made ahead go through all its parts, over and over."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence

from benchmarks.operations import NAME, delivered, task_frames
from engine import Engine
from engine.codec import Delivery, FrameDecoder
from engine.runner import RUNNER
from engine.transport.memory import MemoryTransport
from engine.work import finished_keys
from engine.worker.child import Child
from engine.worker.execution import Execution
from engine.worker.fate import Fate
from engine.worker.flusher import Flusher
from engine.worker.intake import Intake
from engine.worker.job import KnownTask
from engine.worker.limits import SoftLimit
from engine.worker.link import Link
from engine.worker.prefetch import Prefetch
from engine.worker.revoked import RevokedIds
from engine.worker.scoreboard import Scoreboard
from engine.worker.settling import Settler

BATCH = 16  #: deliveries a read
_HOST = "child@bench"


class Replay(MemoryTransport):
    """Gives a batch of the same deliveries each time it is asked, while any are left. Nothing is sent."""

    def __init__(self, lean: bool) -> None:
        super().__init__("memory://replayed")
        self._stream = delivered(task_frames(lean)) * BATCH
        self._decoder = FrameDecoder()
        self.batches_left = 0
        self.acknowledged = 0

    def receive(self, timeout: float, limit: int = 0) -> list[Delivery]:
        if not self.batches_left:
            return []
        self.batches_left -= 1
        return list(self._decoder.feed(self._stream))  # type: ignore[arg-type]

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        self.acknowledged += len(deliveries)


class ReplayedChild:
    """Call it to run one batch of tasks, from the bytes of their deliveries to the acknowledgement."""

    def __init__(self, lean: bool = True) -> None:
        app = Engine("proj", broker="memory://replayed")

        @app.task(name=NAME, ignore_result=True)
        def add(left: int, right: int) -> int:
            return left + right

        self._ends = socket.socketpair()
        self._transport = Replay(lean)
        board, fd = Scoreboard(1), self._ends[0].fileno()
        link = Link(app, ("celery",), lambda: True, control_fd=fd)
        link.transport = self._transport
        self._transport.connect()
        known = {NAME: KnownTask(app.tasks[NAME], app.conf, None, None)}
        execution = Execution(app, RUNNER, SoftLimit(), _HOST)
        self._child = child = Child(link, Prefetch(3 * BATCH), execution, None, None)
        child.born(board.slot(0), 1, 0)
        settler = Settler(
            lambda messages: [],
            lambda jobs: board.finished.add(0, finished_keys(jobs)),
            child.sign_of_life,
            _HOST,
        )
        fate = Fate(board, board.finished, 0, 1, lambda: None, RevokedIds(board.revoked))
        intake = Intake(
            app,
            known,
            known.get,
            fate,
            lambda job: settler.add(job, time.monotonic()),
            self._transport.park,
            lambda queue: None,
            _HOST,
            can_delay=True,
        )
        child.wire(self._transport, None, settler, intake, fate, Flusher(child, fd), self._stop)

    def _stop(self) -> None:
        self._child.stop_why = "nothing is left"

    def __call__(self) -> int:
        """How many tasks have been acknowledged since the first call."""
        self._transport.batches_left = 1
        self._child.stop_why = ""
        self._child.run()
        return self._transport.acknowledged
