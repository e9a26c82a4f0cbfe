"""`GroupResult`: the results of a group, and results out of their stored form."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from typing import Any

from engine.async_result import AsyncResult, EagerResult
from engine.call_options import check_timeout
from engine.context import current_app


class GroupResult:
    """The results of a group, in the order of its tasks."""

    def __init__(
        self, id: str | None = None, results: Any = None, app: Any = None, parent: Any = None
    ) -> None:
        self.id = id
        self.results: list[Any] = list(results or ())
        self.parent = parent
        self._app = app

    @property
    def app(self) -> Any:
        return self._app if self._app is not None else current_app()

    @property
    def children(self) -> list[Any]:
        return self.results

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.results)

    def __getitem__(self, at: int) -> Any:
        return self.results[at]

    def get(self, timeout: float | None = None, propagate: bool = True, **options: Any) -> list[Any]:
        """Wait for all of them; their values in order. Raises the first exception in that order."""
        check_timeout(timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        values = []
        for result in self.results:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            values.append(result.get(timeout=left, propagate=propagate, **options))
        return values

    join = get
    join_native = get

    def __await__(self) -> Generator[Any, None, list[Any]]:
        return self._await().__await__()

    async def _await(self) -> list[Any]:
        import asyncio

        return list(await asyncio.gather(*(_awaited(result) for result in self.results)))

    def ready(self) -> bool:
        return all(result.ready() for result in self.results)

    def successful(self) -> bool:
        return all(result.successful() for result in self.results)

    def failed(self) -> bool:
        return any(result.failed() for result in self.results)

    def waiting(self) -> bool:
        return any(not result.ready() for result in self.results)

    def completed_count(self) -> int:
        return sum(int(result.successful()) for result in self.results)

    def maybe_throw(self, propagate: bool = True, callback: Any = None) -> None:
        for result in self.results:
            result.maybe_throw(propagate)

    def forget(self) -> None:
        for result in self.results:
            result.forget()

    def revoke(
        self,
        connection: Any = None,
        terminate: bool = False,
        signal: str | int | None = None,
        wait: bool = False,
        timeout: float | None = None,
        **options: Any,
    ) -> None:
        """`AsyncResult.revoke` for all of them, in one command."""
        ids = list(_ids_in(self.results))
        if ids:
            self.app.control.revoke(
                ids, terminate=terminate, signal=signal, reply=wait, timeout=timeout, **options
            )

    def save(self) -> GroupResult:
        """Keep the list of members, so that `restore` finds it by the group's id."""
        self.app.results.save_group(self.id, [result.as_tuple() for result in self.results])
        return self

    @classmethod
    def restore(cls, id: str, app: Any = None) -> GroupResult | None:
        app = app if app is not None else current_app()
        members = app.results.get_group(id)
        return (
            None if members is None else cls(id, [result_from_tuple(member, app) for member in members], app)
        )

    def as_tuple(self) -> tuple[Any, list[Any]]:
        parent = self.parent.as_tuple() if self.parent is not None else None
        return (self.id, parent), [result.as_tuple() for result in self.results]

    def as_list(self) -> list[str]:
        return [self.id or "", *(self.parent.as_list() if self.parent is not None else [])]

    def collect(self, intermediate: bool = False, **options: Any) -> Iterator[tuple[Any, Any]]:
        for result in self.results:
            yield from result.collect(intermediate, **options)

    def __repr__(self) -> str:
        return f"<GroupResult: {self.id} [{', '.join(str(result) for result in self.results)}]>"

    def __hash__(self) -> int:
        return hash(self.id)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, GroupResult):
            return self.id == other.id and self.results == other.results
        return NotImplemented

    def __reduce__(self) -> tuple[Any, ...]:
        return GroupResult, (self.id, self.results, None, self.parent)


def _ids_in(results: list[Any]) -> Iterator[str]:
    for result in results:
        if isinstance(result, GroupResult):
            yield from _ids_in(result.results)
        elif not isinstance(result, EagerResult):
            yield result.id


async def _awaited(result: Any) -> Any:
    return await result


def result_from_tuple(stored: Any, app: Any = None) -> Any:
    """An AsyncResult or GroupResult from its plain form."""
    if isinstance(stored, (AsyncResult, GroupResult)):
        return stored
    own, members = stored
    task_id, parent = own if isinstance(own, (list, tuple)) else (own, None)
    above = result_from_tuple(parent, app) if parent else None
    if members is not None:
        return GroupResult(task_id, [result_from_tuple(member, app) for member in members], app, above)
    return AsyncResult(task_id, app=app, parent=above)
