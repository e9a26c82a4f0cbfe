"""Whether a task's function takes the arguments of a call: checked when it is sent, not when it runs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class ArgumentCheck:
    """Call it with args and kwargs; raises TypeError as the function would. Cheap for positional calls."""

    __slots__ = ("_least", "_most", "_signature")

    def __init__(self, task: Any) -> None:
        self._signature: inspect.Signature | None
        self._least, self._most = 0, -1
        try:
            self._signature = inspect.signature(task.run)
        except (TypeError, ValueError):  # a callable that cannot be looked into
            self._signature = None
            return
        parameters = self._signature.parameters.values()
        if any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters):
            return
        positional = [p for p in parameters if p.kind in _POSITIONAL]
        self._least = sum(1 for p in positional if p.default is p.empty)
        self._most = 1 << 30 if any(p.kind is p.VAR_POSITIONAL for p in parameters) else len(positional)

    def __call__(self, args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> None:
        try:
            if not kwargs and self._least <= len(args) <= self._most:
                return
        except TypeError:
            raise TypeError(f"task arguments are a list or a tuple, not {type(args).__name__}") from None
        if kwargs and not isinstance(kwargs, Mapping):
            raise TypeError(f"a task's keyword arguments are a mapping, not {type(kwargs).__name__}")
        if self._signature is not None:
            self._signature.bind(*args, **(kwargs or {}))
