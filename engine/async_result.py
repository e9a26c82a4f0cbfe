"""`AsyncResult`: the promise of a task's result, and where it stands now.

Rules: a result that is ready is read once and kept; ``get`` inside a task is refused, because the child that
waits could be the one that should work; exceptions come back as `engine.stored_exceptions` says.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from typing import Any, Generic, TypeVar, cast

from engine.call_options import check_timeout
from engine.context import current_app, current_request
from engine.errors import ResultTimeout
from engine.results.base import EXCEPTION_STATES, PROPAGATE_STATES, READY_STATES, ResultMeta, ResultStore
from engine.stored_exceptions import exception_from_stored

R = TypeVar("R")

_POLL_MIN_S, _POLL_MAX_S = 0.002, 0.1


def refuse_inside_task() -> None:
    """Raises RuntimeError when a task waits for another's result."""
    request = current_request()
    if request is not None and not request.is_eager and not request.called_directly:
        raise RuntimeError(
            "never wait for a result inside a task: it blocks a child that the other task may need. "
            "Use a chain or a callback, or get(disable_sync_subtasks=False) if you are sure"
        )


class AsyncResult(Generic[R]):
    """The result of one task."""

    def __init__(
        self,
        id: str,
        backend: ResultStore | None = None,
        task_name: str | None = None,
        app: Any = None,
        parent: Any = None,
    ) -> None:
        if not id:
            raise ValueError("a result needs the id of its task")
        self.id = id
        self.task_name = task_name
        self.parent = parent
        self.ignored = False
        self._app = app
        self._store = backend
        self._meta: ResultMeta | None = None

    @property
    def app(self) -> Any:
        return self._app if self._app is not None else current_app()

    @property
    def task_id(self) -> str:
        return self.id

    @property
    def backend(self) -> ResultStore:
        """The store it is read from. Raises ResultsDisabled, ContentDisallowed."""
        return self._store if self._store is not None else cast("ResultStore", self.app.readable_results)

    # -- waiting ---------------------------------------------------------------------------------------

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        disable_sync_subtasks: bool = True,
        callback: Callable[[str, Any], Any] | None = None,
        follow_parents: bool = True,
        **_ignored: Any,
    ) -> R:
        """Wait for the result and return it; raise the task's exception unless ``propagate`` is false.

        ``interval`` is accepted for Celery's sake: nothing polls. Raises ResultTimeout, ResultsDisabled.
        """
        if self.ignored:
            return cast("R", None)
        if disable_sync_subtasks:
            refuse_inside_task()
        check_timeout(timeout)
        parents = self._parent_ids() if propagate and follow_parents else []
        meta = self._ready_meta() if parents else self._meta  # its own result counts before a parent's
        if meta is None:
            meta = self._wait(self.backend, timeout, parents)
        if meta is None:
            raise ResultTimeout(f"no result of task {self.id} within {timeout} s")
        value = self._value(meta, propagate)
        if callback is not None:
            callback(self.id, value)
        return value

    wait = get

    def _wait(self, store: ResultStore, timeout: float | None, parents: list[str]) -> ResultMeta | None:
        """Its meta once it is ready, or that of a parent which failed: a chain stops there, and waiting for a
        later step would never end. None at the timeout."""
        if not parents:
            meta = store.wait(self.id, timeout)
            return None if meta is None else self._keep(meta)
        with closing(store.iter_ready([self.id, *parents], timeout)) as ready:
            return self._among(ready)

    def _among(self, metas: Iterable[ResultMeta]) -> ResultMeta | None:
        """The first that ends the wait: its own when it is ready, or a failed parent's."""
        for meta in metas:
            if meta.task_id == self.id and meta.status in READY_STATES:
                return self._keep(meta)
            if meta.status in PROPAGATE_STATES:
                return meta
        return None

    def _parent_ids(self) -> list[str]:
        """The earlier steps of its chain whose results may be waited for, the nearest first."""
        ids, node = [], self.parent
        while node is not None:
            if isinstance(node, AsyncResult) and not node.ignored:
                ids.append(node.id)
            node = node.parent
        return ids

    def __await__(self) -> Generator[Any, None, R]:
        return self._await().__await__()

    async def _await(self) -> R:
        """Other coroutines run meanwhile. A store that takes results away as it reads them (rpc) is asked
        from this thread, since the reply queue is this thread's; others wait in a thread of asyncio's."""
        import asyncio  # late: it takes longer to import than all of this package

        if self.ignored:
            return cast("R", None)
        meta, parents = self._ready_meta(), self._parent_ids()
        if meta is None and not self.backend.consuming and self._store is None:
            store_of = self.app
            meta = await asyncio.to_thread(lambda: self._wait(store_of.results, None, parents))
        pause = _POLL_MIN_S
        while meta is None:
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _POLL_MAX_S)
            meta = self._among(self.backend.get_many([self.id, *parents]).values())
        return self._value(meta, propagate=True)

    # -- looking ---------------------------------------------------------------------------------------

    def _keep(self, meta: ResultMeta) -> ResultMeta:
        if meta.status in READY_STATES:
            self._meta = meta
        return meta

    def _ready_meta(self) -> ResultMeta | None:
        if self._meta is not None:
            return self._meta
        meta = self.backend.get(self.id)
        return self._keep(meta) if meta is not None and meta.status in READY_STATES else None

    def _current(self) -> ResultMeta:
        if self._meta is not None:
            return self._meta
        if self.ignored:
            return ResultMeta(self.id, "PENDING")
        meta = self.backend.get(self.id)
        return ResultMeta(self.id, "PENDING") if meta is None else self._keep(meta)

    def _value(self, meta: ResultMeta, propagate: bool) -> R:
        if meta.status in EXCEPTION_STATES:
            error = exception_from_stored(meta.result)
            if propagate and meta.status in PROPAGATE_STATES:
                raise error
            return cast("R", error)
        return cast("R", meta.result)

    @property
    def state(self) -> str:
        """PENDING, STARTED, RETRY, SUCCESS, FAILURE, REVOKED, or a state of the task's own."""
        return self._current().status

    status = state

    @property
    def result(self) -> Any:
        """The return value, the exception, or what ``update_state`` stored."""
        return self._value(self._current(), propagate=False)

    info = result

    @property
    def traceback(self) -> str | None:
        return self._current().traceback

    @property
    def date_done(self) -> str | None:
        """When it ended, as ISO 8601 text."""
        return self._current().date_done

    @property
    def children(self) -> list[Any]:
        """The results of the tasks it sent."""
        return [self.app.result_from_tuple(child) for child in self._current().children]

    @property
    def name(self) -> str | None:
        return self._extended("name") or self.task_name

    def _extended(self, key: str) -> Any:
        return (self._current().extended or {}).get(key)

    @property
    def args(self) -> Any:
        return self._extended("args")

    @property
    def kwargs(self) -> Any:
        return self._extended("kwargs")

    @property
    def worker(self) -> Any:
        return self._extended("worker")

    @property
    def retries(self) -> Any:
        return self._extended("retries")

    @property
    def queue(self) -> Any:
        return self._extended("queue")

    def ready(self) -> bool:
        return self.state in READY_STATES

    def successful(self) -> bool:
        return self.state == "SUCCESS"

    def failed(self) -> bool:
        return self.state == "FAILURE"

    def maybe_throw(self, propagate: bool = True, callback: Any = None) -> Any:
        """Raise the task's exception if it has failed; otherwise what is known."""
        return self._value(self._current(), propagate)

    maybe_reraise = maybe_throw

    def collect(self, intermediate: bool = False, **options: Any) -> Iterator[tuple[AsyncResult[Any], Any]]:
        """Wait for it and for everything it sent, one after the other."""
        yield self, self.get(**options)
        for child in self.children:
            yield from child.collect(intermediate, **options)

    # -- acting ----------------------------------------------------------------------------------------

    def forget(self) -> None:
        """Delete the stored result."""
        self._meta = None
        self.backend.forget(self.id)

    def revoke(
        self,
        connection: Any = None,
        terminate: bool = False,
        signal: str | int | None = None,
        wait: bool = False,
        timeout: float | None = None,
        **options: Any,
    ) -> None:
        """Tell the workers not to run it, or with ``terminate`` to end the process that runs it.

        ``wait`` waits until the workers have answered, for ``timeout`` seconds (default 1); ``connection`` is
        accepted for Celery's sake. Raises ConfigurationError where the broker cannot broadcast."""
        self.app.control.revoke(
            self.id, terminate=terminate, signal=signal, reply=wait, timeout=timeout, **options
        )

    # -- as a value ------------------------------------------------------------------------------------

    def as_tuple(self) -> tuple[Any, None]:
        """Celery's plain form: ``((id, parent), None)``."""
        return (self.id, self.parent.as_tuple() if self.parent is not None else None), None

    def as_list(self) -> list[str]:
        return [self.id, *(self.parent.as_list() if self.parent is not None else [])]

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"<AsyncResult: {self.id}>"

    def __hash__(self) -> int:
        return hash(self.id)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, AsyncResult):
            return self.id == other.id
        return self.id == other if isinstance(other, str) else NotImplemented

    def __reduce__(self) -> tuple[Any, ...]:
        return AsyncResult, (self.id, None, self.task_name, None, self.parent)


class EagerResult(AsyncResult[R]):
    """The result of a task that ran here: nothing is stored, nothing is waited for."""

    def __init__(
        self,
        id: str,
        result: Any,
        state: str,
        traceback: str | None = None,
        name: str | None = None,
        app: Any = None,
    ) -> None:
        super().__init__(id, task_name=name, app=app)
        self._meta = ResultMeta(id, state, result, traceback)

    def get(self, timeout: float | None = None, propagate: bool = True, *_: Any, **_ignored: Any) -> R:
        return self._value(cast("ResultMeta", self._meta), propagate)

    wait = get

    def ready(self) -> bool:
        return True

    def forget(self) -> None:
        pass

    def revoke(self, *_: Any, **_ignored: Any) -> None:
        pass

    def __reduce__(self) -> tuple[Any, ...]:
        meta = cast("ResultMeta", self._meta)
        return EagerResult, (self.id, meta.result, meta.status, meta.traceback, self.task_name)
