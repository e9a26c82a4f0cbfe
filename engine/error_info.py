"""What hooks and signals get of an exception. Imports nothing."""

from __future__ import annotations


class ErrorInfo:
    """An exception with its formatted traceback, as the hooks get it (``einfo``)."""

    def __init__(self, exception: BaseException, text: str) -> None:
        self.exception = exception
        self.type = type(exception)
        self.traceback = text
        self.exc_info = (self.type, exception, exception.__traceback__)
        self.internal = False

    def __str__(self) -> str:
        return self.traceback

    def __repr__(self) -> str:
        return f"<ErrorInfo: {self.exception!r}>"
