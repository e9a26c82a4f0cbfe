"""Every exception the engine raises, in one tree. This module imports nothing.

::

    EngineError
    ├── ConfigurationError          a setting, URL, app or argument is wrong; nothing was sent
    │   ├── UnknownSetting          no setting of that name (carries the nearest known one)
    │   └── MissingExtra            an optional dependency is not installed (says which extra)
    ├── CodecError                  bytes or objects that do not fit the wire
    │   ├── EncodeError             an object cannot be written (type, size, nesting)
    │   ├── DecodeError             bytes cannot be read
    │   │   └── MalformedFrame      AMQP bytes that break the protocol; the connection is lost
    │   ├── ContentDisallowed       a content type that is not accepted, refused before decoding
    │   └── MessageTooLarge         over a size bound, refused before allocating
    ├── TransportError              the broker, or the way to it
    │   ├── ConnectionFailed        could not connect (refused, timeout, TLS)
    │   │   └── AccessRefused       the broker said no: user, password, virtual host, permission
    │   ├── ConnectionLost          an open connection broke; outcomes in flight are unknown
    │   ├── TransportClosed         used after close(), or in a process that did not open it
    │   ├── QueueNotFound           the queue (or exchange) does not exist
    │   ├── DeclareConflict         exists with other arguments, and using it as it is is not safe
    │   └── PublishError            one message was not accepted
    │       ├── Unroutable          no queue is bound for it (mandatory publish returned)
    │       ├── PublishRefused      the broker refused it (basic.nack, full, out of memory)
    │       └── PublishUnknown      the connection broke before the confirm: publish again with the same id
    ├── ResultError                 the result store
    │   ├── ResultTimeout           also a TimeoutError: no result within the time given
    │   └── ResultsDisabled         the app has no result store
    └── TaskError                   what happens to a task
        ├── NotRegistered           also a KeyError: no task of that name in this worker
        ├── Retry                   control flow: the task was sent again
        ├── Ignore                  control flow: store no result, acknowledge
        ├── Reject                  control flow: reject the message (requeue=True puts it back)
        ├── MaxRetriesExceeded      retry() was called once too often
        ├── SoftTimeLimitExceeded   raised inside the task at its soft limit
        ├── TimeLimitExceeded       the task was killed at its hard limit
        ├── WorkerLost              the child that ran the task died
        ├── TaskRevoked             the task was revoked, or had expired
        └── TaskFailed              stands for a stored exception whose class is not known here

All of them pickle: their state is their ``args`` and what ``__reduce__`` adds.
"""

from __future__ import annotations

from typing import Any


class EngineError(Exception):
    """Root of every error the engine raises on purpose."""


class ConfigurationError(EngineError, ValueError):
    """A setting, URL, app or argument is wrong. Nothing was sent."""


class UnknownSetting(ConfigurationError):
    """There is no setting of that name; the message carries the nearest known one."""


class MissingExtra(ConfigurationError, ImportError):
    """An optional dependency is not installed; the message names the extra to install."""


def install_hint(extra: str) -> str:
    """How to install an extra, from wherever the package came."""
    return f"install engine's extra {extra!r} (in a checkout: pip install '.[{extra}]')"


class CodecError(EngineError, ValueError):
    """Bytes or objects that do not fit the wire."""


class EncodeError(CodecError):
    """An object cannot be written: its type, its size or its nesting."""


class DecodeError(CodecError):
    """Bytes cannot be read."""


class MalformedFrame(DecodeError):
    """AMQP bytes that break the protocol. The connection cannot go on."""


class ContentDisallowed(CodecError):
    """A content type that is not accepted; refused before decoding."""


class MessageTooLarge(CodecError):
    """Over a size bound; refused before anything was allocated."""


class TransportError(EngineError):
    """The broker, or the way to it."""


class ConnectionFailed(TransportError, ConnectionError):
    """Could not connect: refused, timeout, name not found, TLS."""


class AccessRefused(ConnectionFailed):
    """The broker said no: user, password, virtual host or permission. Trying again will not help."""


class ConnectionLost(TransportError, ConnectionError):
    """An open connection broke. What was in flight has an unknown outcome."""


class TransportClosed(TransportError):
    """Used after ``close()``, or in a process other than the one that opened it."""


class QueueNotFound(TransportError, LookupError):
    """The queue or exchange does not exist on the broker."""


class DeclareConflict(TransportError):
    """It exists with other arguments, and using it as it is would not be safe."""


class PublishError(TransportError):
    """One message was not accepted by the broker."""


class Unroutable(PublishError):
    """No queue is bound for the message: the broker returned it."""


class PublishRefused(PublishError):
    """The broker refused the message: negative confirm, queue full, out of memory or disk."""


class PublishUnknown(PublishError):
    """The connection broke before the confirm came. Publish again with the same id."""


class ResultError(EngineError):
    """The result store."""


class ResultTimeout(ResultError, TimeoutError):
    """No result within the time given."""


class ResultsDisabled(ResultError):
    """The app has no result store; set ``result_backend``."""


class TaskError(EngineError):
    """What happens to a task."""


class NotRegistered(TaskError, KeyError):
    """No task of that name is registered in this worker."""

    __str__ = Exception.__str__


class Retry(TaskError):
    """Control flow: the task was sent again and will run later.

    Args:
        message: why.
        exc: the exception that caused the retry, if any.
        when: seconds until the next run, or None.
    """

    def __init__(
        self, message: str | None = None, exc: BaseException | None = None, when: float | None = None
    ) -> None:
        super().__init__(message, exc, when)
        self.message = message
        self.exc = exc
        self.when = when

    def __str__(self) -> str:
        if self.message:
            return self.message
        cause = f": {self.exc!r}" if self.exc is not None else ""
        return f"Retry in {self.when}s{cause}" if self.when is not None else f"Retry{cause}"


class Ignore(TaskError):
    """Control flow: the task set its own state; store no result and acknowledge."""


class Reject(TaskError):
    """Control flow: reject the message.

    Args:
        reason: why, for the log.
        requeue: True puts the message back in its queue; False drops or dead-letters it.
    """

    def __init__(self, reason: object = None, requeue: bool = False) -> None:
        super().__init__(reason, requeue)
        self.reason = reason
        self.requeue = requeue


class MaxRetriesExceeded(TaskError):
    """``retry()`` was called more often than ``max_retries`` allows."""


class SoftTimeLimitExceeded(TaskError):
    """Raised inside the task when its soft time limit is reached."""


class TimeLimitExceeded(TaskError):
    """The task was killed at its hard time limit (seconds in ``args[0]``)."""


class WorkerLost(TaskError):
    """The child process that ran the task died."""


class TaskRevoked(TaskError):
    """The task was revoked, or expired before it could start."""


class TaskFailed(TaskError):
    """Stands for a stored exception whose class is not known in this process.

    Args:
        exc_type: the class name as stored.
        exc_message: its arguments as stored (a list, or a string).
        exc_module: the module as stored.
    """

    def __init__(self, exc_type: str, exc_message: Any = None, exc_module: str | None = None) -> None:
        super().__init__(exc_type, exc_message, exc_module)
        self.exc_type = exc_type
        self.exc_message = exc_message
        self.exc_module = exc_module

    def __str__(self) -> str:
        message = self.exc_message
        if isinstance(message, (list, tuple)):
            message = message[0] if len(message) == 1 else ", ".join(map(repr, message))
        return f"{self.exc_type}: {message}" if message not in (None, "") else self.exc_type
