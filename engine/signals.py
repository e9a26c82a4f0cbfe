"""Signals with Celery's names: ``task_prerun.connect(receiver)``. They cost nothing while nobody listens.

A receiver is called with ``signal``, ``sender`` and the signal's own keywords, and must take ``**kwargs``.
What it raises is logged and goes no further. Receivers are held by a weak reference unless ``weak=False``.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from typing import Any, TypeVar, overload

logger = logging.getLogger(__name__)

Receiver = TypeVar("Receiver", bound=Callable[..., Any])


class Signal:
    """One signal. False while it has no receivers, so that senders can skip making its arguments."""

    def __init__(self, name: str) -> None:
        self.name = name
        #: who listens; senders on a hot path look at it, which is cheaper than the signal's own truth
        self.receivers: list[tuple[Any, Callable[[], Callable[..., Any] | None], Any]] = []

    def __bool__(self) -> bool:
        return bool(self.receivers)

    def __repr__(self) -> str:
        return f"<Signal {self.name} receivers={len(self.receivers)}>"

    @overload
    def connect(self, receiver: Receiver) -> Receiver: ...
    @overload
    def connect(
        self, receiver: None = None, *, sender: Any = None, weak: bool = True, dispatch_uid: Any = None
    ) -> Callable[[Receiver], Receiver]: ...
    @overload
    def connect(
        self, receiver: Receiver, sender: Any = None, weak: bool = True, dispatch_uid: Any = None
    ) -> Receiver: ...
    def connect(
        self, receiver: Any = None, sender: Any = None, weak: bool = True, dispatch_uid: Any = None
    ) -> Any:
        """Call ``receiver`` on each send; with ``sender`` only on that sender's. Also a decorator.

        ``dispatch_uid`` keeps the same receiver from being connected twice."""
        if receiver is None:
            return lambda function: self.connect(function, sender, weak, dispatch_uid)
        key = dispatch_uid if dispatch_uid is not None else _identity(receiver)
        if all(known != key or of is not sender for known, _, of in self.receivers):
            self.receivers = [*self.receivers, (key, self._reference(receiver, weak), sender)]
        return receiver

    def disconnect(self, receiver: Any = None, sender: Any = None, dispatch_uid: Any = None) -> bool:
        """Whether it had been connected."""
        key = dispatch_uid if dispatch_uid is not None else _identity(receiver)
        kept = [entry for entry in self.receivers if entry[0] != key or entry[2] is not sender]
        found, self.receivers = len(kept) < len(self.receivers), kept
        return found

    def send(self, sender: Any = None, **named: Any) -> list[tuple[Callable[..., Any], Any]]:
        """Call the receivers; (receiver, what it returned or raised) for each."""
        answers: list[tuple[Callable[..., Any], Any]] = []
        for _, reference, wanted in self.receivers:
            receiver = reference()
            if receiver is None or not _is_for(wanted, sender):
                continue
            try:
                answers.append((receiver, receiver(signal=self, sender=sender, **named)))
            except Exception as error:
                logger.exception("receiver %r of signal %s raised", receiver, self.name)
                answers.append((receiver, error))
        return answers

    def _reference(self, receiver: Any, weak: bool) -> Callable[[], Callable[..., Any] | None]:
        if not weak:
            return lambda: receiver
        if hasattr(receiver, "__self__") and hasattr(receiver, "__func__"):
            return weakref.WeakMethod(receiver, self._sweep)
        return weakref.ref(receiver, self._sweep)

    def _sweep(self, _gone: Any) -> None:
        self.receivers = [entry for entry in self.receivers if entry[1]() is not None]


def _identity(receiver: Any) -> Any:
    if hasattr(receiver, "__self__") and hasattr(receiver, "__func__"):
        return id(receiver.__self__), id(receiver.__func__)
    return id(receiver)


def _is_for(wanted: Any, sender: Any) -> bool:
    """A sender may be named by the task's name."""
    return (
        wanted is None
        or wanted is sender
        or (isinstance(wanted, str) and wanted == getattr(sender, "name", sender))
    )


before_task_publish = Signal("before_task_publish")
after_task_publish = Signal("after_task_publish")
task_received = Signal("task_received")
task_prerun = Signal("task_prerun")
task_postrun = Signal("task_postrun")
task_success = Signal("task_success")
task_failure = Signal("task_failure")
task_retry = Signal("task_retry")
task_internal_error = Signal("task_internal_error")
task_revoked = Signal("task_revoked")
task_rejected = Signal("task_rejected")
task_unknown = Signal("task_unknown")
worker_init = Signal("worker_init")
worker_ready = Signal("worker_ready")
worker_process_init = Signal("worker_process_init")
worker_process_shutdown = Signal("worker_process_shutdown")
worker_shutting_down = Signal("worker_shutting_down")
worker_shutdown = Signal("worker_shutdown")
setup_logging = Signal("setup_logging")
after_setup_logger = Signal("after_setup_logger")
beat_init = Signal("beat_init")
