"""Runs each operation N and 2N times under callgrind; `tools/instructions.py` starts it and reads the counts.

callgrind writes a part of its counts, and begins the next, at every call of `getppid`, which nothing else
calls while operations run. The difference of an operation's two parts is that of N operations: free of the
start of the interpreter, of the marks, and of whatever comes once. Prints the names of the operations, in the
order of the parts.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator

from benchmarks.child import ReplayedChild
from benchmarks.operations import ARGS, NAME, OPERATIONS, delivered, task_frames
from engine import Engine
from engine.codec import Delivery, FrameDecoder
from engine.context import Context

WARM_UP = 50  # caches of names, free lists, specialized bytecode

Operation = Callable[[], object]


def all_operations() -> Iterator[tuple[str, Operation]]:
    """The codec's, the two walks of the library, and a child's loop from bytes to acknowledgement."""
    yield from OPERATIONS.items()
    app = Engine("proj", broker="memory://instructions")

    @app.task(name=NAME)
    def add(left: int, right: int) -> int:
        return left + right

    yield "delay(), on the memory broker", lambda: add.delay(*ARGS)
    [delivery] = FrameDecoder().feed(delivered(task_frames(True)))
    assert isinstance(delivery, Delivery)
    decode = app.decode  # once, as a worker does

    def run() -> object:
        message = decode(delivery)
        context = Context(message, delivery=delivery, outbox=[], called_directly=False, hostname="inline")
        return app.run_task(app.find_task(message.task), context, message)

    yield "delivery to outcome", run
    yield "a child's batch of 16 tasks", ReplayedChild()


def repeat(operation: Operation, count: int) -> None:
    for _ in range(count):
        operation()


def main(count: int) -> None:
    gc.disable()
    names = []
    for name, operation in all_operations():
        names.append(name)
        repeat(operation, WARM_UP)
        os.getppid()  # ends the part that is not counted
        repeat(operation, count)
        os.getppid()
        repeat(operation, 2 * count)
        os.getppid()
    print("\n".join(names))


if __name__ == "__main__":
    main(int(sys.argv[1]))
