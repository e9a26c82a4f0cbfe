"""Celery's settings that have no meaning here, each with the reason its one warning gives.

They are accepted so that a Celery configuration loads unchanged. A key that ends in ``*`` is a section.
"""

from __future__ import annotations

_NO_BACKEND = "there is no such result backend here: use sqlite, redis or rpc"
_NO_POOL = "each child holds its own connection, there is no task pool to set up"
_NO_BOOTSTEPS = "the worker is not made of exchangeable parts"

IGNORED: dict[str, str] = {
    "arangodb_*": _NO_BACKEND,
    "azureblockblob_*": _NO_BACKEND,
    "cache_*": _NO_BACKEND,
    "cassandra_*": _NO_BACKEND,
    "cosmosdbsql_*": _NO_BACKEND,
    "couchbase_*": _NO_BACKEND,
    "database_*": "there is no SQLAlchemy backend here: use sqlite:///file.db",
    "elasticsearch_*": _NO_BACKEND,
    "gcs_*": _NO_BACKEND,
    "mongodb_*": _NO_BACKEND,
    "s3_*": _NO_BACKEND,
    "redis_host": "give the Redis result store as result_backend='redis://...'",
    "redis_port": "give the Redis result store as result_backend='redis://...'",
    "redis_db": "give the Redis result store as result_backend='redis://...'",
    "redis_username": "give the Redis result store as result_backend='redis://...'",
    "redis_max_connections": "a thread that reads or stores results has one connection, there is no pool",
    "redis_retry_on_timeout": "a command that timed out is always tried again, on a new connection",
    "redis_socket_keepalive": "TCP keepalive is always on",
    "redis_password": "give the Redis result store as result_backend='redis://...'",
    "security_*": "messages are not signed here yet",
    "beat_scheduler": "there is one scheduler, and any number of it may run",
    "beat_sync_every": "the schedule is saved at every run",
    "beat_enable_remote_control": "the scheduler answers no commands",
    "beat_remote_control_max_tick_age": "the scheduler answers no commands",
    "broker_channel_error_retry": "a channel error is always recovered from",
    "broker_failover_strategy": "the brokers of a list are tried in turn",
    "broker_heartbeat_checkrate": "heartbeats are sent and checked at half their interval",
    "broker_login_method": "the login is PLAIN, or EXTERNAL with a client certificate",
    "broker_native_delayed_delivery_queue_type": "the transport chooses the type of its delay queues",
    "result_cache_max": "an AsyncResult keeps what it has read, and nothing else does",
    "result_compression": "results are stored as they are",
    "result_exchange": "results are sent straight to the caller's queue",
    "result_exchange_type": "results are sent straight to the caller's queue",
    "result_chord_retry_interval": "a chord's members are counted by the store, nothing polls",
    "result_backend_always_retry": "a result is always stored before its task is acknowledged",
    "result_backend_max_retries": "a result is always stored before its task is acknowledged",
    "result_backend_base_sleep_between_retries_ms": "the pauses between tries are the worker's own",
    "result_backend_max_sleep_between_retries_ms": "the pauses between tries are the worker's own",
    "task_allow_error_cb_on_chord_header": "error callbacks are given to tasks one by one",
    "task_retry_on_worker_lost": "a task whose child died comes back by itself, and worker_quarantine_after "
    "bounds how often: neither its retries nor a delay are used up",
    "task_remote_tracebacks": "tracebacks are stored as text with the result",
    "worker_agent": _NO_BOOTSTEPS,
    "worker_autoscaler": _NO_BOOTSTEPS,
    "worker_consumer": _NO_BOOTSTEPS,
    "worker_timer": _NO_BOOTSTEPS,
    "worker_timer_precision": _NO_BOOTSTEPS,
    "worker_pool": _NO_POOL,
    "worker_pool_putlocks": _NO_POOL,
    "worker_pool_restarts": _NO_POOL,
    "worker_pool_start_method": _NO_POOL,
    "worker_cancel_long_running_tasks_on_connection_loss": "a child that lost its broker finishes its task",
    "worker_enable_soft_shutdown_on_idle": "messages put off are never held by a worker",
    "worker_lost_wait": "a child settles its tasks itself: no outcome is on its way when it is dead",
    "worker_eta_task_limit": "messages put off are never held by a worker",
    "worker_enable_prefetch_count_reduction": "a child's prefetch adapts itself",
    "worker_detect_quorum_queues": "prefetch is set per consumer, as quorum queues want it",
    "worker_log_format": "the log's format is chosen on the command line",
    "worker_log_datefmt": "the log's format is chosen on the command line",
    "worker_task_log_format": "the log's format is chosen on the command line",
    "worker_task_log_datefmt": "the log's format is chosen on the command line",
}

_SECTIONS = {name[:-1]: reason for name, reason in IGNORED.items() if name.endswith("*")}


def reason_ignored(name: str) -> str | None:
    """Why a Celery setting has no effect here, or None when it is not one of those."""
    if name in IGNORED:
        return IGNORED[name]
    return next((why for prefix, why in _SECTIONS.items() if name.startswith(prefix)), None)
