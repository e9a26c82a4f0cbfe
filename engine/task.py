"""`Task`: a registered function, how it is called and how it is tried again.

Calling the task runs the function plainly; ``delay`` and ``apply_async`` send it; ``apply`` runs it here as a
worker would. Attributes that are None come from the settings when the app is finalized.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextvars import Token
from typing import TYPE_CHECKING, Any, ClassVar, Generic, ParamSpec, TypeVar, cast

from engine import context as running
from engine.async_result import AsyncResult as Result
from engine.canvas import signature as make_signature
from engine.context import Context
from engine.errors import ConfigurationError, Ignore, MaxRetriesExceeded, Reject, Retry
from engine.signature import Signature
from engine.task_arguments import ArgumentCheck

if TYPE_CHECKING:
    from engine.app import Engine

P = ParamSpec("P")
R = TypeVar("R")

__all__ = ["Context", "Ignore", "MaxRetriesExceeded", "Reject", "Retry", "Task"]

#: attributes that, when None, take a setting's value
_FROM_SETTINGS = {
    "serializer": "task_serializer",
    "compression": "task_compression",
    "rate_limit": "task_default_rate_limit",
    "priority": "task_default_priority",
    "track_started": "task_track_started",
    "acks_late": "task_acks_late",
    "acks_on_failure_or_timeout": "task_acks_on_failure_or_timeout",
    "reject_on_worker_lost": "task_reject_on_worker_lost",
    "ignore_result": "task_ignore_result",
    "store_eager_result": "task_store_eager_result",
    "store_errors_even_if_ignored": "task_store_errors_even_if_ignored",
}
#: attributes that are options of every call
_CALL_OPTIONS = """
    queue routing_key exchange priority expires serializer delivery_mode compression time_limit
    soft_time_limit mandatory
""".split()  # noqa: SIM905 - one line is easier to read than a list of eleven


class Task(Generic[P, R]):
    """A task. Made by ``@app.task``, or by subclassing with a ``run`` method and ``app.register_task``.

    Attributes are Celery's; ``acks_late`` False is the opt-in to acknowledge before the work, which may lose
    the task with its child. Hooks to override: ``before_start``, ``on_success``, ``on_failure``,
    ``on_retry``, ``after_return``.
    """

    name: str = ""
    app: Engine = None  # type: ignore[assignment]  # set by bind()
    run: Callable[..., Any]
    bound: ClassVar[bool] = False  #: run's first parameter is the task (bind=True)

    max_retries: int | None = 3
    default_retry_delay: float = 180.0
    autoretry_for: tuple[type[BaseException], ...] = ()
    dont_autoretry_for: tuple[type[BaseException], ...] = ()
    retry_kwargs: Mapping[str, Any] | None = None
    retry_backoff: bool | float = False
    retry_backoff_max: float = 600.0
    retry_jitter: bool = True

    acks_late: bool | None = None
    acks_on_failure_or_timeout: bool | None = None
    reject_on_worker_lost: bool | None = None
    ignore_result: bool | None = None
    store_eager_result: bool | None = None
    store_errors_even_if_ignored: bool | None = None
    track_started: bool | None = None
    trail: bool = True
    typing: bool = True
    throws: tuple[type[BaseException], ...] = ()

    time_limit: float | None = None
    soft_time_limit: float | None = None
    rate_limit: str | float | None = None
    serializer: str | None = None
    compression: str | None = None
    queue: Any = None
    exchange: Any = None
    routing_key: str | None = None
    priority: int | None = None
    delivery_mode: Any = None
    expires: Any = None
    mandatory: bool | None = None

    MaxRetriesExceededError = MaxRetriesExceeded

    _check: ArgumentCheck | None = None
    _idle_request: Context | None = None
    _overridden: frozenset[str] | None = None

    # -- life ------------------------------------------------------------------------------------------

    def bind(self, app: Engine) -> None:
        """Take from the settings what the task leaves open, and its annotations. Idempotent."""
        self.app = app
        conf = app.conf
        for attribute, setting in _FROM_SETTINGS.items():
            if getattr(self, attribute) is None:
                setattr(self, attribute, getattr(conf, setting))
        annotate(self, conf.task_annotations)
        if self.soft_time_limit and self.time_limit and self.soft_time_limit > self.time_limit:
            raise ConfigurationError(f"task {self.name}: soft_time_limit is longer than time_limit")
        self.on_bound(app)

    def on_bound(self, app: Engine) -> None:
        """Called when the task has its app."""

    @property
    def acks_early(self) -> bool:
        """Acknowledge before the work: the task is lost if its child dies."""
        return self.acks_late is False

    @property
    def call_options(self) -> dict[str, Any]:
        """The attributes that go with every call."""
        found = ((name, getattr(self, name)) for name in _CALL_OPTIONS)
        return {name: value for name, value in found if value is not None}

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run it here and now, as a plain function."""
        token = running.push(self, Context(args=args, kwargs=kwargs))
        try:
            return cast("R", self.run(*args, **kwargs))
        finally:
            running.pop(token)

    def __repr__(self) -> str:
        return f"<@task: {self.name}{f' of {self.app!r}' if self.app is not None else ''}>"

    def __reduce__(self) -> Any:
        return _by_name, (self.name,)

    @property
    def __name__(self) -> str:
        return self.name.rpartition(".")[2]

    # -- sending ---------------------------------------------------------------------------------------

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> Result[R]:
        """Send it with these arguments."""
        if self._check is None or not self.typing or _replaced(self.apply_async):
            return self.apply_async(args, kwargs)
        self._check(args, kwargs)  # as `apply_async` would, in fewer steps
        return self.app.send(self, self.name, args, kwargs, None, None, {})

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        task_id: str | None = None,
        producer: Any = None,
        link: Any = None,
        link_error: Any = None,
        shadow: str | None = None,
        **options: Any,
    ) -> Result[R]:
        """Send it.

        Args:
            args: positional arguments.
            kwargs: keyword arguments.
            task_id: its id; a new one by default.
            producer: publish with this producer, not one of the app's.
            link: signatures to call with the result when it succeeds.
            link_error: signatures to call when it fails.
            shadow: a name for logs and monitors in place of the task's.
            **options: countdown, eta, expires, retry, retry_policy, queue, exchange, routing_key, priority,
                serializer, compression, headers, ignore_result, time_limit, soft_time_limit, add_to_parent,
                connection, delivery_mode, ..., as for Celery.

        Raises TypeError for arguments the function does not take, PublishError or ConnectionFailed when the
        broker does not have the message for sure.
        """
        if self.typing:
            if self._check is None:
                self._check = ArgumentCheck(self)
            self._check(args or (), kwargs)
        if link is not None:
            options["link"] = link
        if link_error is not None:
            options["link_error"] = link_error
        if shadow is not None:
            options["shadow"] = shadow
        return self.app.send(self, self.name, args or (), kwargs or {}, task_id, producer, options)

    def apply(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        link: Any = None,
        link_error: Any = None,
        task_id: str | None = None,
        retries: int = 0,
        throw: bool | None = None,
        **options: Any,
    ) -> Result[R]:
        """Run it here as a worker would, callbacks and retries included; an EagerResult.

        ``throw`` lets its exceptions through (default: task_eager_propagates)."""
        options.update(link=link, link_error=link_error, retries=retries)
        return self.app.apply_task(self, args or (), kwargs or {}, task_id, throw, options)

    def signature(self, args: Any = None, *positional: Any, **named: Any) -> Signature:
        """A signature of it; see `engine.signature`."""
        named.setdefault("app", self.app)
        return make_signature(self, args, *positional, **named)

    subtask = signature

    def s(self, *args: Any, **kwargs: Any) -> Signature:
        """A signature with these arguments."""
        return self.signature(args, kwargs)

    def si(self, *args: Any, **kwargs: Any) -> Signature:
        """A signature that takes no others."""
        return self.signature(args, kwargs, immutable=True)

    def AsyncResult(self, task_id: str, **options: Any) -> Result[R]:  # noqa: N802 - Celery's name
        """The result of the call with that id."""
        return self.app.AsyncResult(task_id, task_name=self.name, **options)

    # -- while it runs ---------------------------------------------------------------------------------

    @property
    def request(self) -> Context:
        """The request of the run that is going on here."""
        found = running.request_of(self)
        if found is None:
            found = self._idle_request
            if found is None:
                found = self._idle_request = Context()
        return found

    def push_request(self, request: Context | None = None, **fields: Any) -> Token[Any]:
        """Make ``request`` the current one; for tests, and for the worker."""
        return running.push(self, request if request is not None else Context(**fields))

    def pop_request(self) -> None:
        running.pop()

    def retry(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        exc: BaseException | None = None,
        throw: bool = True,
        eta: Any = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> Retry:
        """Send the task again under the same id, to run later; raises Retry, which says so to the worker.

        The new message is handed to the broker before the old one is acknowledged. When it was tried often
        enough, ``exc`` is raised, or MaxRetriesExceeded. Called outside a worker it raises ``exc``.
        """
        from engine.retrying import retry

        return retry(self, args, kwargs, exc, throw, eta, countdown, max_retries, options)

    def update_state(
        self, task_id: str | None = None, state: str | None = None, meta: Any = None, **_ignored: Any
    ) -> None:
        """Store a state of the task's own, for whoever looks at its result."""
        from engine.results.base import ResultMeta

        request = self.request
        wanted = task_id or request.id
        if wanted:
            meta_now = ResultMeta(wanted, state or "PENDING", meta, reply_to=request.reply_to)
            meta_now.correlation_id = wanted
            self.app.results.store([meta_now])

    def add_trail(self, result: Any) -> Any:
        """Remember a result as a child of this run."""
        if self.trail:
            self.request.children.append(result)
        return result

    def replace(self, sig: Signature) -> Any:
        """End this run; ``sig`` takes its id, its callbacks and the rest of its chain. Raises Ignore."""
        from engine.retrying import replace

        return replace(self, sig)

    @property
    def backend(self) -> Any:
        """The app's result store."""
        return self.app.results

    # -- hooks -----------------------------------------------------------------------------------------

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Called before each run."""

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        """Called when it has returned."""

    def on_failure(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Called when it has failed."""

    def on_retry(self, exc: BaseException | None, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Called when it is to be tried again."""

    def after_return(
        self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any
    ) -> None:
        """Called after each run, however it ended."""


_HOOKS = ("__call__", "before_start", "on_success", "on_failure", "on_retry", "after_return")
_NONE: frozenset[str] = frozenset()  # one for all tasks: each that runs looks at it


_apply_async = Task.apply_async


def _replaced(apply_async: Any) -> bool:
    """Whether a task's ``apply_async`` is somebody else's: a subclass's, or a test's."""
    return getattr(apply_async, "__func__", None) is not _apply_async


def overridden(task: Task[Any, Any]) -> frozenset[str]:
    """The hooks that the task's class has of its own, looked up once: the others need not be called."""
    found = task._overridden
    if found is None:
        kind = type(task)
        found = frozenset(hook for hook in _HOOKS if getattr(kind, hook) is not getattr(Task, hook)) or _NONE
        task._overridden = found
    return found


def annotate(task: Task[Any, Any], annotations: Any) -> None:
    """Set the attributes that ``task_annotations`` gives for the task's name or for ``*``."""
    if not annotations:
        return
    for item in annotations if isinstance(annotations, (list, tuple)) else (annotations,):
        if isinstance(item, Mapping):
            found = {**(item.get("*") or {}), **(item.get(task.name) or {})}
        else:
            found = item.annotate(task) or {}
        for attribute, value in found.items():
            setattr(task, attribute, value)


def make_task_class(
    function: Callable[..., Any], base: type[Task[Any, Any]], bound: bool, options: Mapping[str, Any]
) -> type[Task[Any, Any]]:
    """A task class around a function, which stays reachable as ``__wrapped__``."""
    attributes: dict[str, Any] = {
        "run": function if bound else staticmethod(function),
        "bound": bound,
        "__doc__": function.__doc__,
        "__module__": function.__module__,
        "__wrapped__": staticmethod(function),
        **options,
    }
    _warn_of_misspelled(options, base)
    for name in ("autoretry_for", "dont_autoretry_for", "throws"):
        if name in attributes:
            given = attributes[name]
            attributes[name] = (given,) if inspect.isclass(given) else tuple(given or ())
    made: type[Task[Any, Any]] = type(function.__name__, (base,), attributes)
    made.__qualname__ = function.__qualname__
    return made


#: attributes of Celery's tasks that mean nothing here, and are no misspellings
_CELERYS_OWN = frozenset(
    {
        *("abstract", "acks_on_failure", "acks_on_timeout", "autoregister", "from_config", "shadow_name"),
        *("resultrepr_maxsize", "retry_on_worker_lost", "send_events", "Request", "Strategy"),
    }
)


def _warn_of_misspelled(options: Mapping[str, Any], base: type[Task[Any, Any]]) -> None:
    """A task may have any attribute; one that is nearly a known one was most likely meant to be that."""
    unknown = [name for name in options if not hasattr(base, name) and name not in _CELERYS_OWN]
    if not unknown:
        return
    import difflib

    known = [name for name in dir(base) if name[0] != "_"]
    for name in unknown:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.85)
        if near:
            warnings.warn(
                f"a task has no attribute {name!r}: did you mean {near[0]!r}?", UserWarning, stacklevel=5
            )


def _by_name(name: str) -> Task[Any, Any]:
    """A pickled task, in the process that unpickles it."""
    return cast("Task[Any, Any]", running.current_app().find_task(name))
