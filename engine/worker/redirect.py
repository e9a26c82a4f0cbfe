"""What tasks print goes to the log, line by line: ``sys.stdout`` and ``sys.stderr`` of a child.

Rules
-----
* A line is a record: of `REDIRECTED_LOGGER`, at the level of ``worker_redirect_stdouts_level``, with the task
  that printed it. Blank lines make none; control characters are escaped.
* The start of a line waits for its end, one for each thread. It is logged unfinished when it gets long, when
  another task prints, at ``flush()``, when the child is idle and when it ends.
* What logging itself writes while a line is being logged (a broken handler, one that was bound to these
  streams) goes to the stream that was there before: nothing goes round in circles.
* No lock, so that a fork in a task finds none that is held; a forked process forgets the unfinished lines,
  which are its parent's.
* ``fileno()`` is that of the stream behind, for ``subprocess`` and ``faulthandler``; what is written there
  directly does not pass through here.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import logging
import os
import sys
import threading
from typing import Any, TextIO

from engine.context import current_request
from engine.worker.logs import REDIRECTED_LOGGER, clean

#: characters of an unfinished line that are held
_LONGEST = 8192

_logging_here = threading.local()
_streams: list[LogStream] = []


class LogStream(io.TextIOBase):
    """A text stream into the log. ``behind`` is the stream it stands in for, if there is one."""

    mode = "w"

    def __init__(self, behind: TextIO | None, level: int) -> None:
        self._behind = behind
        self._level = level
        self._logger = logging.getLogger(REDIRECTED_LOGGER)
        self._unfinished: dict[int, tuple[str, dict[str, str]]] = {}  # by thread: the text and who printed it
        self._buffer = _Bytes(self)

    # -- a text stream ---------------------------------------------------------------------------------

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._behind, "encoding", None) or "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        return getattr(self._behind, "errors", None) or "backslashreplace"

    @property
    def buffer(self) -> _Bytes:
        """For those who write bytes: they are decoded and logged too."""
        return self._buffer

    def fileno(self) -> int:
        if self._behind is None:
            raise io.UnsupportedOperation("there is no file behind this stream")
        return self._behind.fileno()

    def isatty(self) -> bool:
        """False: what is written here ends in a log, where no colour and no progress bar belongs."""
        return False

    def writable(self) -> bool:
        return True

    def reconfigure(self, **_options: Any) -> None:
        """Accepted, for code that sets the buffering or encoding of its output: here lines are text."""

    def close(self) -> None:
        """Closing it only flushes: the next task may want to print."""
        self.flush()

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() takes a str, not {type(text).__name__}")
        if getattr(_logging_here, "busy", False):
            if self._behind is not None:
                self._behind.write(text)
            return len(text)
        thread, who = threading.get_ident(), _who()
        held, before = self._unfinished.pop(thread, ("", who))
        if held and before != who:
            self._log(held, before)
            held = ""
        lines = (held + text).split("\n")
        rest = lines.pop()
        if len(rest) > _LONGEST:
            lines.append(rest)
            rest = ""
        if rest:
            self._unfinished[thread] = (rest, who)
        for line in lines:
            self._log(line, who)
        return len(text)

    def flush(self) -> None:
        """Log what this thread has begun."""
        held = self._unfinished.pop(threading.get_ident(), None)
        if held is not None:
            self._log(*held)
        if self._behind is not None:
            with contextlib.suppress(OSError, ValueError):
                self._behind.flush()

    # -- into the log ----------------------------------------------------------------------------------

    def release(self) -> None:
        """Log what any thread has begun."""
        for thread in list(self._unfinished):
            held = self._unfinished.pop(thread, None)
            if held is not None:
                self._log(*held)

    def forget(self) -> None:
        """After a fork: what was begun is the parent's."""
        self._unfinished.clear()

    def _log(self, line: str, who: dict[str, str]) -> None:
        line = line.rstrip("\r")
        if not line or line.isspace():
            return
        _logging_here.busy = True
        try:
            self._logger.log(self._level, "%s", clean(line, sys.maxsize), extra=who)
        finally:
            _logging_here.busy = False


class _Bytes(io.RawIOBase):
    """The ``buffer`` of a `LogStream`."""

    def __init__(self, stream: LogStream) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        raw = bytes(data)
        self._stream.write(self._decoder.decode(raw))
        return len(raw)

    def flush(self) -> None:
        self._stream.flush()

    def fileno(self) -> int:
        return self._stream.fileno()


def _who() -> dict[str, str]:
    request = current_request()
    if request is None or request.id is None:
        return {}
    return {"task": clean(str(request.task)), "task_id": clean(str(request.id))}


def install(level: int) -> None:
    """Put both streams in place, once a process tree; logging that is set up already keeps its own."""
    if not _streams:
        os.register_at_fork(after_in_child=_forget)
    for name in ("stdout", "stderr"):
        behind = getattr(sys, name)
        if not isinstance(behind, LogStream):
            stream = LogStream(behind, level)
            _streams.append(stream)
            setattr(sys, name, stream)


def release() -> None:
    """Log every line that was begun and not ended. Costs nothing where nothing is redirected."""
    for stream in _streams:
        stream.release()


def _forget() -> None:
    _logging_here.busy = False
    for stream in _streams:
        stream.forget()
