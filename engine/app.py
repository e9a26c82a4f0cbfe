"""`Engine`: one app, that is its settings, its tasks, and this process's connections.

Rules: making an app connects to nothing and reads no file; everything that holds a connection belongs to one
process (and, for result stores, to one thread) and is made anew after a fork. The app is made of layers, one
a module: settings, broker, tasks, messages, and here the face that users see.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from engine import context as running
from engine.app_messages import AppMessages
from engine.async_result import AsyncResult as Result
from engine.canvas import signature
from engine.codec import TaskMessage
from engine.context import Context
from engine.errors import ConfigurationError
from engine.group_result import GroupResult as Results
from engine.group_result import result_from_tuple
from engine.outbox import Outbox, StreamBox
from engine.signature import Signature
from engine.task import Task as BaseTask
from engine.work import Outcome

if TYPE_CHECKING:
    from engine.amqp import AMQP
    from engine.control import Control


class Engine(AppMessages):
    """An app.

    Args:
        main: the name under which tasks of the program's main module are known (default: its file's name).
        broker: `broker_url`.
        backend: `result_backend`.
        config_source: a module, its name, an object or a mapping with settings.
        include: modules with tasks that a worker imports.
        namespace: the prefix of the settings in ``config_source``.
        set_as_current: let code that names no app use this one.
        **settings: any setting.
    """

    def __init__(
        self,
        main: str | None = None,
        *,
        broker: str | Sequence[str] | None = None,
        backend: str | None = None,
        config_source: Any = None,
        include: Sequence[str] = (),
        namespace: str | None = None,
        set_as_current: bool = True,
        **settings: Any,
    ) -> None:
        named = {"broker_url": broker, "result_backend": backend, "include": include}
        settings.update({name: value for name, value in named.items() if value})
        super().__init__(main, settings, config_source, namespace)
        if set_as_current:
            running.set_current_app(self)
        running.adopt(self)

    def __repr__(self) -> str:
        return f"<Engine {self.main or '__main__'} with {len(self._tasks)} tasks>"

    def __reduce__(self) -> Any:
        raise TypeError("an app cannot be pickled: import it where it is needed")

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def amqp(self) -> AMQP:
        """Celery's face of queues, routes and messages."""
        from engine.amqp import AMQP

        return AMQP(self)

    @property
    def control(self) -> Control:
        """Commands to running workers: revoke, ping, broadcast."""
        from engine.control import Control

        return Control(self)

    @property
    def Task(self) -> type[BaseTask[Any, Any]]:  # noqa: N802 - Celery's name
        """The class that tasks are made of."""
        return self.task_cls

    def run_task(self, task: BaseTask[Any, Any], request: Context, message: TaskMessage) -> Outcome:
        """`engine.runner.run_task` for this app."""
        from engine.runner import run_task

        return run_task(self, task, request, message)

    def apply_task(
        self,
        task: BaseTask[Any, Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        task_id: str | None,
        throw: bool | None,
        options: dict[str, Any],
    ) -> Result[Any]:
        """`Task.apply`: run it here as a worker would."""
        from engine.eager import apply_task

        return apply_task(task, args, kwargs, task_id, throw, options)

    # -- calls and results -----------------------------------------------------------------------------

    def signature(self, *args: Any, **kwargs: Any) -> Signature:
        """A signature that belongs to this app."""
        return signature(*args, app=self, **kwargs)

    subtask = signature

    def AsyncResult(self, id: str, **options: Any) -> Result[Any]:  # noqa: N802 - Celery's names
        """The result of the task with that id."""
        options.setdefault("app", self)
        return self.result_cls(id, **options)

    def GroupResult(self, id: str, results: Any = (), **options: Any) -> Results:  # noqa: N802
        """The results of a group."""
        options.setdefault("app", self)
        return Results(id, results, **options)

    def result_from_tuple(self, stored: Any) -> Any:
        """A result from the plain form in which it is stored."""
        return result_from_tuple(stored, self)

    @property
    def current_task(self) -> BaseTask[Any, Any] | None:
        """The task that is running here."""
        return cast("BaseTask[Any, Any] | None", running.current_task())

    @property
    def current_worker_task(self) -> BaseTask[Any, Any] | None:
        """The same, unless it was called as a plain function."""
        request = running.current_request()
        return None if request is None or request.called_directly else self.current_task

    def add_to_parent(self, result: Any) -> None:
        """Remember a result as a child of the task that is running here."""
        task = self.current_worker_task
        if task is not None:
            task.add_trail(result)

    def set_current(self) -> None:
        """Let code that names no app use this one."""
        running.set_current_app(self)

    set_default = set_current

    @contextmanager
    def batch(self, producer: Any = None, *, every: int | None = None) -> Iterator[Any]:
        """Calls made with ``producer=`` what this yields are published together at the end, and none of them
        if the block raises.

        With ``every`` so many at a time are sent as they come, each lot while the broker confirms the one
        before: for more calls than are to be kept in memory. What was sent before the block raised is sent.

        Raises the first error when one of them could not be published."""
        if every is not None:
            with self._batch_stream(producer, every) as streamed:
                yield streamed
            return
        box = Outbox()
        yield box
        if isinstance(producer, Outbox):
            producer.messages.extend(box.messages)
            producer.declared.update(box.declared)
        elif box.messages:
            sender = producer or self.producer
            _raise_first(sender.publish_messages(box.messages, policy=self.publish_policy))

    @contextmanager
    def _batch_stream(self, producer: Any, every: int) -> Iterator[StreamBox]:
        if every < 1:
            raise ConfigurationError(f"batch: every is the number of calls sent at a time, not {every}")
        if isinstance(producer, Outbox):
            raise ConfigurationError(
                "batch: a batch within a batch is sent with the outer one: leave every out"
            )
        with (producer or self.producer).stream(policy=self.publish_policy) as stream:
            box = StreamBox(stream, every)
            yield box
            box.flush()
        _raise_first(stream.outcomes)


def _raise_first(outcomes: Iterable[Exception | None]) -> None:
    for error in outcomes:
        if error is not None:
            raise error
