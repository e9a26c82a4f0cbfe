"""Signatures: calls as plain data, in the JSON shape of Celery's.

A signature is a dict ``{"task", "args", "kwargs", "options", "subtask_type", "immutable"}``, so it travels in
messages and is understood by Celery's workers and clients alike. `engine.canvas` makes chains and groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, ClassVar

from engine.context import current_app
from engine.ids import new_id

#: options that a later merge never overwrites
_FIXED_OPTIONS = frozenset({"group_id", "stamped_headers"})


def _item(key: str) -> Any:
    def read(self: Signature) -> Any:
        return self.get(key)

    def write(self: Signature, value: Any) -> None:
        self[key] = value

    return property(read, write)


def as_list(value: Any) -> list[Any]:
    """None is nothing, one thing is a list of it."""
    if value is None:
        return []
    if isinstance(value, (list, tuple)):
        return list(value)
    return [value]


class Signature(dict[str, Any]):
    """One call: a task's name, arguments and options.

    Args:
        task: a task, a task's name, or a signature's dict.
        args: positional arguments; when it is called, further ones go before them.
        kwargs: keyword arguments.
        options: options of apply_async.
        immutable: takes no further arguments.
    """

    types: ClassVar[dict[str, type[Signature]]] = {}
    _app: Any = None
    _type: Any = None

    task = _item("task")
    args = _item("args")
    kwargs = _item("kwargs")
    options = _item("options")
    subtask_type = _item("subtask_type")
    immutable = _item("immutable")

    def __init__(
        self,
        task: Any = None,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        type: Any = None,
        subtask_type: str | None = None,
        immutable: bool = False,
        app: Any = None,
        **more_options: Any,
    ) -> None:
        self._app = app
        if isinstance(task, dict):
            super().__init__(_EMPTY | task)
            return
        if not isinstance(task, str):
            self._type, self._app = task, app if app is not None else getattr(task, "app", None)
            task = getattr(task, "name", task)
        super().__init__(
            task=task,
            args=tuple(args or ()),
            kwargs=dict(kwargs or {}),
            options={**(options or {}), **more_options},
            subtask_type=subtask_type,
            immutable=immutable,
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], app: Any = None) -> Signature:
        """The signature of the right class for a dict that came in a message."""
        kind = cls.types.get(values.get("subtask_type") or "")
        if kind is not None and kind is not cls:
            return kind.from_dict(values, app)
        return Signature(dict(values), app=app)

    # -- what it is for --------------------------------------------------------------------------------

    @property
    def app(self) -> Any:
        return self._app if self._app is not None else current_app()

    @property
    def type(self) -> Any:
        """The task. Raises NotRegistered when this process does not know it."""
        if self._type is None:
            self._type = self.app.find_task(self.task)
        return self._type

    @property
    def name(self) -> str:
        return str(self.task)

    @property
    def id(self) -> str | None:
        """The task's id, once it is frozen."""
        found: str | None = self.options.get("task_id")
        return found

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task here and now, as a function."""
        all_args, all_kwargs, _ = self._merge(args, kwargs)
        return self.type(*all_args, **all_kwargs)

    def delay(self, *args: Any, **kwargs: Any) -> Any:
        return self.apply_async(args, kwargs)

    def apply_async(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Send it; ``args`` go before its own, ``kwargs`` and ``options`` over its own."""
        given = {name: value for name, value in options.items() if value is not None}
        all_args, all_kwargs, all_options = self._merge(args or (), kwargs or {}, given)
        task = self._type if self._type is not None else self.app.tasks.get(self.task)
        if task is not None:
            return task.apply_async(all_args, all_kwargs, **all_options)
        return self.app.send_task(self.task, all_args, all_kwargs, **all_options)

    def apply(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Run it here, with its callbacks; an EagerResult."""
        given = {name: value for name, value in options.items() if value is not None}
        all_args, all_kwargs, all_options = self._merge(args or (), kwargs or {}, given)
        return self.type.apply(all_args, all_kwargs, **all_options)

    def _merge(
        self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, options: Any = None
    ) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]:
        own: dict[str, Any] = self.options
        fixed = _FIXED_OPTIONS.union(own.get("stamped_headers") or ())
        merged = {**own, **{k: v for k, v in (options or {}).items() if k not in fixed or k not in own}}
        if self.immutable:
            return tuple(self.args), self.kwargs, merged
        return (*args, *self.args), {**self.kwargs, **(kwargs or {})}, merged

    # -- making others of it ---------------------------------------------------------------------------

    def clone(
        self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Signature:
        """A copy with further arguments and options."""
        all_args, all_kwargs, all_options = self._merge(args, kwargs, options)
        copy = Signature.from_dict(
            {
                "task": self.task,
                "args": all_args,
                "kwargs": dict(all_kwargs),
                "options": deepcopy(all_options),
                "subtask_type": self.subtask_type,
                "immutable": self.immutable,
            },
            self._app,
        )
        copy._type = self._type
        return copy

    partial = clone

    def replace(self, args: Any = None, kwargs: Any = None, options: Any = None) -> Signature:
        """A copy with other arguments or options, where given."""
        copy = self.clone()
        for key, value in (("args", args), ("kwargs", kwargs), ("options", options)):
            if value is not None:
                copy[key] = value
        return copy

    def set(self, immutable: bool | None = None, **options: Any) -> Signature:
        """Set options of apply_async; returns itself."""
        if immutable is not None:
            self.set_immutable(immutable)
        self.options.update(options)
        return self

    def set_immutable(self, immutable: bool) -> None:
        self.immutable = immutable

    def freeze(
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Any = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
    ) -> Any:
        """Give it its id ahead of sending; the AsyncResult of that id."""
        options = self.options
        task_id = options.setdefault("task_id", _id or new_id())
        for key, value in (("root_id", root_id), ("parent_id", parent_id), ("chord", chord)):
            if value:
                options[key] = value
        if group_id:
            options.setdefault("group_id", group_id)
        if group_index is not None:
            options["group_index"] = group_index
        if self.app.rpc_results:  # a worker sends the later steps, and their results are to come here
            options.setdefault("reply_to", self.app.thread_oid)
        return self.app.AsyncResult(task_id, task_name=self.task)

    def link(self, callback: Any) -> Any:
        """Call ``callback`` with the result when it succeeds; returns the callback."""
        return self._append("link", callback)

    def link_error(self, errback: Any) -> Any:
        """Call ``errback`` when it fails; returns the errback."""
        return self._append("link_error", errback)

    def on_error(self, errback: Any) -> Signature:
        """`link_error` that returns the signature itself."""
        self.link_error(errback)
        return self

    def _append(self, option: str, value: Any) -> Any:
        items = as_list(self.options.get(option))
        if value not in items:
            items.append(value)
        self.options[option] = items
        return value

    def __or__(self, other: Any) -> Any:
        if isinstance(other, Signature):
            kwargs = {"tasks": [self, other]}
            return Signature.from_dict({"kwargs": kwargs, "subtask_type": "chain"}, self._app)
        return NotImplemented

    def __ior__(self, other: Any) -> Any:
        return self.__or__(other)

    def __invert__(self) -> Any:
        return self.apply_async().get()

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return {key: deepcopy(value, memo) for key, value in dict.items(self)}

    def __reduce__(self) -> Any:
        return signature, (dict(self),)

    def __json__(self) -> dict[str, Any]:
        return dict(self)

    def __repr__(self) -> str:
        shown = [repr(argument) for argument in self.args]
        shown += [f"{name}={value!r}" for name, value in self.kwargs.items()]
        return f"{self.task}({', '.join(shown)})"


_EMPTY: dict[str, Any] = {
    "task": None,
    "args": (),
    "kwargs": {},
    "options": {},
    "subtask_type": None,
    "immutable": False,
}


def signature(varies: Any, *args: Any, **kwargs: Any) -> Signature:
    """A signature from a task, a name, or a signature's dict (which is copied only if it is a plain dict)."""
    app = kwargs.pop("app", None)
    if isinstance(varies, Signature):
        if app is not None and varies._app is None:
            varies._app = app
        return varies.clone() if args or kwargs else varies
    if isinstance(varies, Mapping):
        return Signature.from_dict(varies, app)
    made = Signature(varies, *args, **kwargs)
    made._app = app if app is not None else made._app
    return made
