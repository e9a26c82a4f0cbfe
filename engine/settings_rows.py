"""The settings that mean something here: one row each. `engine.settings` reads them.

A row is name, kind, default, what it does. The kind says how a value is checked and how text (an environment
variable) becomes one; ``seconds`` take a number or a timedelta. ``| None`` in a kind allows None.
Defaults that a Celery client shares stay Celery's, because queues are declared with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One setting.

    Attributes:
        name: its name, in Celery's lower-case spelling where Celery has it.
        kind: str, int, float, seconds, bool, dict, list, url or any; with ``| None`` where None is a value.
        default: its value when nobody sets it.
        doc: one line for the documentation.
        choices: the values allowed, or empty.
        minimum: the least value allowed, for numbers.
    """

    name: str
    kind: str
    default: Any
    doc: str
    choices: tuple[Any, ...] = ()
    minimum: float | None = None

    @property
    def env(self) -> str:
        return f"ENGINE_{self.name.upper()}"

    @property
    def nullable(self) -> bool:
        return self.kind.endswith("| None")

    @property
    def base_kind(self) -> str:
        return self.kind.partition(" |")[0]


def _section(prefix: str, *rows: tuple[Any, ...]) -> tuple[Row, ...]:
    return tuple(Row(prefix + row[0], *row[1:]) for row in rows)


_QUEUE_TYPES = ("classic", "quorum")

GENERAL = _section(
    "",
    (
        "accept_content",
        "list",
        ("json",),
        "Serializers or content types that are read; all others are refused.",
    ),
    (
        "result_accept_content",
        "list | None",
        None,
        "The same for results that are read; None takes accept_content.",
    ),
    ("enable_utc", "bool", True, "Write times in UTC; False writes them in `timezone`."),
    ("timezone", "str | None", None, "Time zone of schedules, and of times written when enable_utc is off."),
    ("imports", "list", (), "Modules a worker imports before it starts."),
    ("include", "list", (), "More modules a worker imports; added to `imports`."),
)

BROKER = _section(
    "broker_",
    ("url", "url", "sqlite:///engine.db", "Where the broker is; a list or url1;url2 is tried in turn."),
    ("read_url", "url | None", None, "Broker for consumers; None takes broker_url."),
    ("write_url", "url | None", None, "Broker for publishers; None takes broker_url."),
    ("transport", "str | None", None, "Old style: the scheme, when the URL is given in parts."),
    ("host", "str | None", None, "Old style: the host, when the URL is given in parts."),
    ("port", "int | None", None, "Old style: the port."),
    ("user", "str | None", None, "Old style: the user."),
    ("password", "str | None", None, "Old style: the password."),
    ("vhost", "str | None", None, "Old style: the virtual host, database number or path."),
    ("transport_options", "dict", {}, "Options of the transport: visibility_timeout, global_keyprefix, ..."),
    ("connection_timeout", "seconds", 4.0, "How long connecting may take.", (), 0),
    ("connection_retry", "bool", True, "A worker that lost its broker tries again, with growing pauses."),
    (
        "connection_retry_on_startup",
        "bool | None",
        None,
        "The same at the start; None takes connection_retry.",
    ),
    (
        "connection_max_retries",
        "int | None",
        None,
        "Retries in a row after which a worker gives up (exit status 1); None or 0 is for ever.",
        (),
        0,
    ),
    ("heartbeat", "seconds", 60.0, "AMQP heartbeat; 0 switches it off.", (), 0),
    ("pool_limit", "int | None", 10, "Most connections of one process; None or 0 keeps none open.", (), 0),
    (
        "pool_acquire_timeout",
        "seconds | None",
        None,
        "How long to wait for one of them; None waits on.",
        (),
        0,
    ),
    (
        "use_ssl",
        "any",
        None,
        "True, or ca_certs, certfile, keyfile, cert_reqs, ...; certificates are checked.",
    ),
    ("max_message_size", "int", 134217728, "Bytes; larger messages are refused unread.", (), 1024),
    ("lease", "seconds", 60.0, "Redis: how long a claim stands when its worker stops renewing it.", (), 1),
    ("client_name", "str", "engine", "The name under which the broker's tools show the connections."),
)

RESULT = _section(
    "result_",
    (
        "backend",
        "url | None",
        None,
        "Where results are kept; None: in the SQLite broker's file, else nowhere.",
    ),
    ("backend_transport_options", "dict", {}, "Options of the result store: global_keyprefix, ..."),
    ("expires", "seconds | None", 86400.0, "How long a result is kept; None or 0 for ever.", (), 0),
    ("failure_expires", "seconds | None", None, "The same for failures; None takes result_expires.", (), 0),
    ("chord_expires", "seconds | None", None, "The same for a chord's counters.", (), 0),
    ("persistent", "bool | None", None, "rpc://: results survive a restart of the broker."),
    ("extended", "bool", False, "Store name, args, kwargs, worker, retries and queue with each result."),
    ("serializer", "str", "json", "How results are written.", ("json",)),
    ("chord_join_timeout", "seconds", 3.0, "How long collecting a chord's results may take.", (), 0),
)

TASK = _section(
    "task_",
    (
        "acks_late",
        "bool",
        True,
        "Acknowledge after the work (Celery's default is before: that may lose tasks).",
    ),
    ("acks_on_failure_or_timeout", "bool", True, "A task that failed or timed out is done, not tried again."),
    ("acks_on_failure", "bool | None", None, "The same for failures alone."),
    ("acks_on_timeout", "bool | None", None, "The same for time limits alone."),
    (
        "reject_on_worker_lost",
        "bool | None",
        None,
        "A task whose child died: True or None requeues, False fails.",
    ),
    ("always_eager", "bool", False, "delay() runs the task here and now. For tests."),
    ("eager_propagates", "bool", False, "Then, let its exceptions through."),
    ("store_eager_result", "bool", False, "Then, store its result."),
    ("annotations", "any", None, "Attributes set on tasks by name: {'tasks.add': {'rate_limit': '10/s'}}."),
    ("compression", "str | None", None, "How task messages are compressed: gzip, bzip2, zstd, ..."),
    ("serializer", "str", "json", "How task messages are written."),
    ("create_missing_queues", "bool", True, "A queue that task_queues does not name is made."),
    ("create_missing_queue_type", "str", "classic", "Its type.", _QUEUE_TYPES),
    ("create_missing_queue_exchange_type", "str | None", None, "The type of its exchange; None is direct."),
    ("default_queue", "str", "celery", "Where tasks without a route go."),
    ("default_queue_type", "str", "classic", "Its type; quorum survives the loss of a node.", _QUEUE_TYPES),
    ("default_exchange", "str | None", None, "Its exchange; None takes the queue's name."),
    ("default_exchange_type", "str", "direct", "The exchange's type."),
    ("default_routing_key", "str | None", None, "Its routing key; None takes the queue's name."),
    ("default_delivery_mode", "any", 2, "2 or persistent: on disk; 1 or transient: in memory."),
    ("default_priority", "int | None", None, "The priority of tasks that set none.", (), 0),
    ("default_rate_limit", "str | None", None, "The rate limit of tasks that set none: 100/m."),
    ("inherit_parent_priority", "bool", False, "A task sent by a task takes its priority."),
    ("queues", "any", None, "The queues: kombu Queue objects, or {name: {exchange, routing_key, ...}}."),
    ("queue_max_priority", "int | None", None, "x-max-priority of queues that set none.", (), 1),
    (
        "routes",
        "any",
        None,
        "Which task goes where: a dict by name, glob or regex; functions; a list of them.",
    ),
    ("ignore_result", "bool", False, "Store no results."),
    ("store_errors_even_if_ignored", "bool", False, "But store failures."),
    ("protocol", "int", 2, "The message protocol written; both are read.", (2,)),
    ("publish_retry", "bool", True, "A publish that failed is tried again, with the same id."),
    (
        "publish_retry_policy",
        "dict",
        {"max_retries": 3, "interval_start": 0, "interval_max": 1, "interval_step": 0.2},
        "How often and after which pauses (seconds).",
    ),
    ("repr_maxlevels", "int", 3, "How deep arguments are shown in events.", (), 0),
    ("send_sent_event", "bool", False, "Send the task-sent event."),
    (
        "soft_time_limit",
        "seconds | None",
        None,
        "SoftTimeLimitExceeded is raised in a task after this.",
        (),
        0,
    ),
    ("time_limit", "seconds | None", None, "A task is killed after this.", (), 0),
    ("track_started", "bool", False, "Store STARTED when a task begins."),
    (
        "lean_headers",
        "bool",
        True,
        "Leave headers out whose value is the protocol's default: smaller, faster.",
    ),
)

PRODUCER = _section(
    "producer_",
    ("confirms", "bool", True, "Wait until the broker has the message. False may lose messages."),
    ("timeout", "seconds | None", 30.0, "The most a publish may take, retries and waiting included.", (), 0),
)

WORKER = _section(
    "worker_",
    ("concurrency", "int | None", None, "Children; None or 0 is one a CPU.", (), 0),
    (
        "prefetch",
        "int | None",
        None,
        "Messages a child holds ahead; None adapts to the tasks' length.",
        (),
        0,
    ),
    (
        "prefetch_multiplier",
        "int | None",
        None,
        "Celery's name for it: the same when worker_prefetch is None.",
        (),
        0,
    ),
    ("disable_prefetch", "bool", False, "Hold one message at a time."),
    ("direct", "bool", False, "Each worker also reads a queue of its own, `<name>@<host>.dq2`."),
    ("disable_rate_limits", "bool", False, "Ignore the tasks' rate limits."),
    (
        "deduplicate_successful_tasks",
        "bool",
        False,
        "A redelivered task whose SUCCESS is stored is not run again, unless something follows it.",
    ),
    ("enable_remote_control", "bool", True, "Answer inspect and control commands."),
    (
        "hijack_root_logger",
        "bool",
        True,
        "The worker's logging replaces what the app set up; False keeps that.",
    ),
    ("log_color", "bool | None", None, "Coloured levels on a terminal; None: unless NO_COLOR is set."),
    ("max_memory_per_child", "int | None", None, "KiB of memory after which a child is replaced.", (), 1),
    ("max_tasks_per_child", "int | None", None, "Tasks after which a child is replaced.", (), 1),
    ("proc_alive_timeout", "seconds", 60.0, "A child that takes longer to start is killed.", (), 1),
    ("redirect_stdouts", "bool", True, "Lines that tasks print go to the log."),
    ("redirect_stdouts_level", "str", "WARNING", "At this level."),
    ("send_task_events", "bool", False, "Send task events for monitors."),
    ("state_db", "str | None", None, "A file that keeps revoked ids over restarts."),
    (
        "soft_shutdown_timeout",
        "seconds",
        0.0,
        "How long running tasks may go on after a cold stop was asked for.",
        (),
        0,
    ),
    (
        "drain_deadline",
        "seconds | None",
        None,
        "How long running tasks may go on after a stop; None: no end.",
        (),
        0,
    ),
    ("quarantine_after", "int", 3, "Crashes after which a task goes to the dead-letter queue.", (), 1),
    ("dead_letter_queue", "str | None", None, "That queue's name; None is the queue's name and '.dead'."),
    (
        "unknown_task_grace",
        "seconds",
        60.0,
        "How long a task of unknown name is put off before failing.",
        (),
        0,
    ),
)

CONTROL = _section(
    "",
    ("control_exchange", "str", "celery", "The name control commands are sent under."),
    ("control_queue_ttl", "seconds", 300.0, "How long a control command lives.", (), 0),
    ("control_queue_expires", "seconds", 10.0, "How long an unused control queue lives.", (), 0),
    ("control_queue_exclusive", "bool", True, "Control queues belong to one connection."),
    ("control_queue_durable", "bool", False, "Control queues survive a restart of the broker."),
    ("event_exchange", "str", "celeryev", "The exchange of events."),
    ("event_queue_prefix", "str", "celeryev", "The prefix of event queues."),
    ("event_queue_ttl", "seconds", 5.0, "How long an event lives.", (), 0),
    ("event_queue_expires", "seconds", 60.0, "How long an unused event queue lives.", (), 0),
    ("event_queue_exclusive", "bool", True, "Event queues belong to one connection."),
    ("event_queue_durable", "bool", False, "Event queues survive a restart of the broker."),
    ("event_serializer", "str", "json", "How events are written."),
)

BEAT = _section(
    "beat_",
    ("schedule", "dict", {}, "What to send when: {name: {task, schedule, args, kwargs, options}}."),
    ("max_loop_interval", "seconds", 0, "The longest sleep of the scheduler; 0 is its own choice.", (), 0),
    ("schedule_filename", "str", "celerybeat-schedule", "The file that remembers the last runs."),
    ("cron_starting_deadline", "seconds | None", None, "Runs missed by more than this are skipped.", (), 0),
)

REDIS = _section(
    "redis_",
    ("backend_use_ssl", "any", None, "TLS options of the Redis result store."),
    ("socket_timeout", "seconds | None", 120.0, "How long a command to it may take.", (), 0),
    ("socket_connect_timeout", "seconds | None", None, "How long connecting to it may take.", (), 0),
)

ROWS: tuple[Row, ...] = (
    *GENERAL,
    *BROKER,
    *RESULT,
    *TASK,
    *PRODUCER,
    *WORKER,
    *CONTROL,
    *BEAT,
    *REDIS,
)
