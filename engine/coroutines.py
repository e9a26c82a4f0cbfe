"""``async def`` tasks: run to their end on one event loop a process (and thread).

A task that is interrupted (a soft time limit raised by a signal handler) is cancelled and waited for, so that
its ``finally`` blocks run and nothing of it is left on the loop. asyncio is imported when it is needed: that
takes longer than importing all of this package.
"""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

_local = threading.local()


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """The coroutine's result. Inside a running loop it gets a thread of its own."""
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run_here(coroutine)
    return _run_beside(coroutine)


def _loop() -> asyncio.AbstractEventLoop:
    import asyncio

    loop: asyncio.AbstractEventLoop | None = getattr(_local, "loop", None)
    if loop is None or _local.pid != os.getpid() or loop.is_closed():
        loop = _local.loop = asyncio.new_event_loop()
        _local.pid = os.getpid()
    return loop


def _run_here(coroutine: Coroutine[Any, Any, T]) -> T:
    import asyncio

    loop = _loop()
    task = loop.create_task(coroutine)
    try:
        return loop.run_until_complete(task)
    except BaseException:
        if not task.done():
            task.cancel()
            loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
        raise


def _run_beside(coroutine: Coroutine[Any, Any, T]) -> T:
    """For eager calls inside a coroutine: the loop that runs there cannot be entered again."""
    import asyncio

    outcome: list[Any] = []
    context = contextvars.copy_context()

    def body() -> None:
        try:
            outcome.append((True, context.run(asyncio.run, coroutine)))
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            outcome.append((False, error))

    thread = threading.Thread(target=body, name="engine-eager")
    thread.start()
    thread.join()
    good, value = outcome[0]
    if not good:
        raise value
    return value  # type: ignore[no-any-return]


def close() -> None:
    """Close this thread's loop (a worker's child does at its end)."""
    loop: asyncio.AbstractEventLoop | None = getattr(_local, "loop", None)
    if loop is not None and _local.pid == os.getpid() and not loop.is_closed():
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
    _local.loop = None
