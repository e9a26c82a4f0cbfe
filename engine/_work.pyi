# The typed contract of the extension: bases whose rare steps are methods of the Python classes made from
# them. Each base's docstring in the sources names those.
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, final

from typing_extensions import disjoint_base

from engine.codec import Delivery, TaskMessage

stack: ContextVar[Running | None]

@disjoint_base
class Outcome:
    """How one run of a task ended: what is to be stored, published and done with the message."""

    state: str  # SUCCESS, FAILURE, RETRY, REVOKED, IGNORED or REJECTED
    result: Any  # the return value (SUCCESS) or the exception (FAILURE, RETRY, REVOKED)
    traceback: str | None  # formatted
    store: bool  # whether a result is to be stored
    requeue: bool  # for REJECTED: whether the message goes back to its queue
    publish: Any  # a sequence of `engine.codec.Message`, to be confirmed before the acknowledgement
    runtime_s: float
    def __init__(
        self,
        state: str,
        result: Any = None,
        traceback: str | None = None,
        store: bool = True,
        requeue: bool = False,
        publish: Any = (),
        runtime_s: float = 0.0,
    ) -> None: ...

@disjoint_base
class Known:
    """What a run needs of a registered task."""

    task: Any
    pace: Pace
    careful: bool  # something has to happen before each run
    stores: bool  # whether its results are kept, where the call says nothing
    hard_s: float  # 0.0: no limit
    soft_s: float
    def __init__(self, task: Any, pace: Pace, hooks: frozenset[str]) -> None: ...

@disjoint_base
class Job:
    """A delivery, its task message (without name and id when it could not be read), and how it ended."""

    @property
    def delivery(self) -> Delivery: ...
    @property
    def message(self) -> TaskMessage: ...
    @property
    def known(self) -> Any: ...  # the child's own kind of `Known`, or None
    outcome: Outcome
    finish: int  # what is to be done with the message: `engine.worker.job`
    children: list[Any] | None  # the tasks it sent, as its result's meta tells them
    tombstone_id: str | None  # its tombstone may be taken down once this is settled
    def __init__(self, delivery: Delivery, message: TaskMessage, known: Known | None) -> None: ...

@final
class TaskRecord:
    """Writes what a child runs into the scoreboard. One writer a record.

    Args:
        mapping: the shared memory.
        record_at, word_at: where the child's record, and the supervisor's word to it, are; bytes.
    """

    def __init__(self, mapping: Any, record_at: int, word_at: int) -> None: ...
    def begin(
        self, task_id: str, name: str, started_mono_s: float, deadline_mono_s: float, phase: int
    ) -> int: ...
    def phase(self, phase: int) -> int: ...

@final
class Pace:
    """How long the runs of one task take: a mean that follows the latest ones."""

    @property
    def runs(self) -> int: ...
    @property
    def mean_s(self) -> float: ...
    @property
    def short(self) -> bool: ...
    @property
    def long(self) -> bool: ...
    def __init__(self, short_s: float, long_s: float) -> None: ...
    def record(self, duration_s: float) -> int: ...

@disjoint_base
class Running:
    """One entry of the stack of what runs here and now."""

    @property
    def task(self) -> Any: ...
    @property
    def below(self) -> Running | None: ...
    @property
    def request(self) -> Any: ...  # made when it is first asked for
    def __init__(self, task: Any, request: Any, below: Running | None) -> None: ...

@disjoint_base
class Runner:
    """Runs a task once."""

    def run(
        self,
        app: Any,
        running: Running,
        message: TaskMessage,
        call: Callable[..., Any],
        hooks: frozenset[str],
        stores: bool,
    ) -> Outcome: ...

@disjoint_base
class Sorter:
    """Which messages are to be run at once."""

    def __init__(
        self,
        decode: Callable[[Delivery], TaskMessage],
        known: dict[str, Any],
        find: Callable[[str], Known | None],
        tombstones: Mapping[str, Any],
        revoked: Mapping[str, Any],
    ) -> None: ...
    def sort(self, delivery: Delivery) -> Job | None: ...

@disjoint_base
class Pending:
    """Jobs that have ended and are not settled."""

    pending: list[Job]
    oldest_mono_s: float  # when the oldest of them ended
    def add(self, job: Job, now: float) -> int: ...

@disjoint_base
class Executor:
    """Runs jobs of one app in this process."""

    def __init__(self, app: Any, runner: Runner, soft: Any, before: Any, after: tuple[Any, ...]) -> None: ...
    def run(self, job: Job, soft_s: float) -> Outcome: ...

@disjoint_base
class Turn:
    """The part of a child that every task goes through."""

    gate: Any
    task_started_mono_s: float
    task_deadline_mono_s: float
    stop_why: str
    transport: Any
    guarded: bool
    batch: int
    ran: int
    failed: int
    unobserved: int
    busy_s: float
    longest_s: float
    word: int
    logs_all: bool
    has_limits: bool
    wants_refresh: bool
    @property
    def buffer(self) -> Any: ...
    def __init__(self, gate: Any, buffer: Any, executor: Executor) -> None: ...
    def take_place(self, record: TaskRecord, canary_fd: int) -> None: ...
    def use(self, sorter: Sorter, settler: Pending, flusher: Any) -> None: ...
    def work(self) -> None: ...
    def one(self, delivery: Delivery) -> int: ...

def keep_heap(from_heap: int, kept: int) -> bool: ...
def trim_heap() -> bool: ...
def to_store(jobs: list[Job]) -> list[Job]: ...
def deliveries_to(finish: int, jobs: list[Job]) -> list[Delivery]: ...
def are_plain(jobs: list[Job]) -> bool: ...
def publish_nothing(jobs: list[Job]) -> bool: ...
def have_tombstones(jobs: list[Job]) -> bool: ...
def finished_keys(jobs: list[Job]) -> bytes: ...
