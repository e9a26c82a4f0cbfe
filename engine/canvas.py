"""Chains and groups of signatures.

A chain travels with its first task, the rest of it reversed: the next step is the last item. A group's tasks
are published in one batch. A group with something after it would be a chord, which is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from engine.context import current_app
from engine.errors import ConfigurationError
from engine.ids import new_id
from engine.signature import Signature, as_list, signature

__all__ = ["Signature", "as_list", "chain", "chord", "group", "maybe_signature", "signature", "subtask"]


def _tasks(items: Sequence[Any], app: Any) -> list[Signature]:
    if len(items) == 1 and not isinstance(items[0], Mapping) and isinstance(items[0], Iterable):
        items = list(items[0])
    for item in items:
        if not isinstance(item, (Mapping, str)) and not hasattr(item, "name"):
            raise TypeError(
                f"chains and groups are made of signatures, such as task.s(), not of {item!r:.40}"
            )
    return [signature(item, app=app) for item in items]


class chain(Signature):  # noqa: N801 - Celery's name
    """Tasks one after the other, each with the result of the one before as its first argument."""

    tasks = property(lambda self: self.kwargs["tasks"])

    def __init__(self, *tasks: Any, app: Any = None, **options: Any) -> None:
        steps: list[Signature] = []
        for step in _tasks(tasks, app):
            steps.extend(step.steps() if isinstance(step, chain) else [step])
        super().__init__("celery.chain", (), {"tasks": steps}, options, app=app, subtask_type="chain")
        _refuse_chord(steps)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], app: Any = None) -> Signature:
        made = cls(*values["kwargs"]["tasks"], app=app, **(values.get("options") or {}))
        made["args"] = tuple(values.get("args") or ())
        made.immutable = bool(values.get("immutable"))
        return made

    @property
    def app(self) -> Any:
        return self._app if self._app is not None else self.tasks[0].app if self.tasks else current_app()

    def steps(self) -> list[Signature]:
        """Copies of its tasks, the chain's own callbacks moved to where they belong."""
        steps = [task.clone() for task in self.tasks]
        for callback in as_list(self.options.get("link")) if steps else ():
            steps[-1].link(callback)
        for errback in as_list(self.options.get("link_error")):
            for step in steps:
                step.link_error(errback)
        return steps

    def prepare(
        self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **frozen: Any
    ) -> tuple[list[Signature], Any]:
        """The steps with their ids, in order, and the last one's result, whose parents are those before."""
        steps = self.steps()
        result = None
        if steps:
            steps[0] = steps[0].clone((*args, *self.args) if not self.immutable else self.args, kwargs)
        for at, step in enumerate(steps):
            last = at == len(steps) - 1
            extra = frozen if last else {"root_id": frozen.get("root_id")}
            below = step.freeze(**extra)
            below.parent = result
            result = below
        return steps, result

    def freeze(self, _id: str | None = None, *args: Any, **options: Any) -> Any:
        steps, result = self.prepare(_id=_id, **options)
        self.kwargs["tasks"] = steps
        self["args"] = ()
        return result

    def apply_async(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Send the first step, the others with it; the result of the last."""
        merged = {**self.options, **{k: v for k, v in options.items() if v is not None}}
        if self.app.conf.task_always_eager:
            return self.apply(args, kwargs, **options)
        frozen = {
            key: merged.pop(key, None) for key in ("root_id", "parent_id", "group_id", "group_index", "chord")
        }
        steps, result = self.prepare(args or (), kwargs, _id=merged.pop("task_id", None), **frozen)
        if not steps:
            return None
        for key in ("link", "link_error"):
            given = as_list(merged.pop(key, None))
            for callback in given if key in options else ():
                for step in steps if key == "link_error" else steps[-1:]:
                    step._append(key, callback)
        rest = list(reversed(steps[1:]))
        after = as_list(merged.pop("chain", None))  # a chain as a step of another: its rest comes after ours
        sent = steps[0].apply_async(chain=[*after, *rest] or None, **merged)
        return result if rest else sent

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.apply_async(args, kwargs)

    def apply(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        result: Any = None
        for at, step in enumerate(self.steps()):
            given = (args or (), kwargs) if at == 0 else ((result.get(),), None)
            below = step.apply(*given, **options)
            below.parent, result = result, below
            if getattr(below, "state", "SUCCESS") not in ("SUCCESS", "FAILURE"):
                break
        return result

    def __or__(self, other: Any) -> Any:
        if isinstance(other, Signature):
            return chain(*self.tasks, other, app=self._app, **self.options)
        return NotImplemented

    def __len__(self) -> int:
        return len(self.tasks)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return " | ".join(map(repr, self.tasks)) or "chain(<empty>)"


class group(Signature):  # noqa: N801 - Celery's name
    """Tasks side by side, published in one batch."""

    tasks = property(lambda self: self.kwargs["tasks"])

    def __init__(self, *tasks: Any, app: Any = None, **options: Any) -> None:
        members = _tasks(tasks, app)
        super().__init__("celery.group", (), {"tasks": members}, options, app=app, subtask_type="group")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], app: Any = None) -> Signature:
        return cls(*values["kwargs"]["tasks"], app=app, **(values.get("options") or {}))

    @property
    def app(self) -> Any:
        return self._app if self._app is not None else self.tasks[0].app if self.tasks else current_app()

    def _flat(self) -> Iterator[Signature]:
        for task in self.tasks:
            if isinstance(task, group):
                yield from task._flat()
            elif not (isinstance(task, chain) and not task.tasks):
                yield task.clone()

    def freeze(self, _id: str | None = None, *args: Any, **options: Any) -> Any:
        group_id = self.options.setdefault("task_id", _id or new_id())
        for key in ("root_id", "parent_id"):
            if options.get(key):
                self.options[key] = options[key]
        members = list(self._flat())
        self.kwargs["tasks"] = members
        ids = {key: self.options.get(key) for key in ("root_id", "parent_id")}
        return self.app.GroupResult(
            group_id,
            [task.freeze(group_id=group_id, group_index=at, **ids) for at, task in enumerate(members)],
        )

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        add_to_parent: bool = True,
        producer: Any = None,
        **options: Any,
    ) -> Any:
        """Send them all; a GroupResult. Raises the first error when one could not be published."""
        merged = {**self.options, **{k: v for k, v in options.items() if v is not None}}
        if merged.get("link") or merged.get("link_error"):
            raise TypeError("a group takes no callbacks of its own: link its tasks one by one")
        if self.app.conf.task_always_eager:
            return self.apply(args, kwargs, **options)
        group_id = merged.pop("task_id", None) or merged.pop("group_id", None) or new_id()
        merged.pop("group_id", None)
        results = []
        with self.app.batch(producer) as outbox:
            for at, task in enumerate(self._flat()):
                results.append(task.freeze(group_id=group_id, root_id=merged.get("root_id"), group_index=at))
                task.apply_async(args, kwargs, add_to_parent=False, producer=outbox, **merged)
        result = self.app.GroupResult(group_id, results)
        if add_to_parent:
            self.app.add_to_parent(result)
        return result

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self.apply_async(args, **options)

    def apply(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        group_id = options.pop("task_id", None) or new_id()
        return self.app.GroupResult(group_id, [task.apply(args, kwargs, **options) for task in self._flat()])

    def set_immutable(self, immutable: bool) -> None:
        for task in self.tasks:
            task.set_immutable(immutable)

    def link(self, callback: Any) -> Any:
        """As Celery: the first task calls it, without its result."""
        return self.tasks[0].link(callback.clone().set(immutable=True))

    def link_error(self, errback: Any) -> Any:
        return tuple(task.link_error(signature(errback).clone()) for task in self.tasks)

    def skew(self, start: float = 1.0, stop: float | None = None, step: float = 1.0) -> group:
        """Let them begin one after the other, ``step`` seconds apart."""
        for at, task in enumerate(self.tasks):
            delay = start + at * step
            task.set(countdown=delay if stop is None else min(delay, stop))
        return self

    def __or__(self, other: Any) -> Any:
        if isinstance(other, Signature):
            return chain(self, other, app=self._app)
        return NotImplemented

    def __len__(self) -> int:
        return len(self.tasks)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"group({self.tasks!r})"


_FROZEN = ("root_id", "parent_id", "group_id", "group_index", "chord")


def chord(header: Any, body: Any = None, **options: Any) -> Any:
    """A callback for when a whole group is done. Not there yet. Raises ConfigurationError."""
    raise ConfigurationError(
        "chords are not implemented: nothing was sent. Collect a group's results in the caller "
        "(group(...)().get()), or let its last task start what follows"
    )


def _refuse_chord(steps: Sequence[Signature]) -> None:
    """A group with something after it is a chord in Celery."""
    if any(isinstance(step, group) for step in steps[:-1]):
        chord(None)


Signature.types.update(chain=chain, group=group)
subtask = signature
maybe_signature = signature
