"""Celery's old upper-case names, and how any spelling becomes today's name.

Celery derives most old names from the section (task_x was CELERY_X, worker_x CELERYD_X); the rest are listed.
"""

from __future__ import annotations

from collections.abc import Iterable

#: section of a setting -> the old prefix; other sections just had their name in upper case
_PREFIXES = {
    "task_": "CELERY_",
    "worker_": "CELERYD_",
    "beat_": "CELERYBEAT_",
    "cache_": "CELERY_CACHE_",
    "couchbase_": "CELERY_COUCHBASE_",
    "arangodb_": "CELERY_ARANGODB_",
    "event_": "CELERY_EVENT_",
    "redis_": "CELERY_REDIS_",
    "result_": "CELERY_RESULT_",
    "elasticsearch_": "CELERY_ELASTICSEARCH_",
    "security_": "CELERY_SECURITY_",
}

#: those that do not follow the rule
_IRREGULAR = {
    "CELERY_ACCEPT_CONTENT": "accept_content",
    "CELERY_IMPORTS": "imports",
    "CELERY_INCLUDE": "include",
    "CELERY_TIMEZONE": "timezone",
    "TIME_ZONE": "timezone",
    "CELERY_ENABLE_UTC": "enable_utc",
    "CELERY_MAX_CACHED_RESULTS": "result_cache_max",
    "CELERY_TASK_RESULT_EXPIRES": "result_expires",
    "CELERY_RESULT_DBURI": "database_url",
    "CELERY_RESULT_ENGINE_OPTIONS": "database_engine_options",
    "CELERY_RESULT_DB_SHORT_LIVED_SESSIONS": "database_short_lived_sessions",
    "CELERY_RESULT_DB_TABLENAMES": "database_table_names",
    "CELERY_MESSAGE_COMPRESSION": "task_compression",
    "CELERY_EAGER_PROPAGATES_EXCEPTIONS": "task_eager_propagates",
    "CELERY_TASK_PROTOCOL": "task_protocol",
    "CELERY_TASK_PUBLISH_RETRY": "task_publish_retry",
    "CELERY_TASK_PUBLISH_RETRY_POLICY": "task_publish_retry_policy",
    "CELERY_SEND_TASK_SENT_EVENT": "task_send_sent_event",
    "CELERY_TASK_SERIALIZER": "task_serializer",
    "CELERYD_TASK_SOFT_TIME_LIMIT": "task_soft_time_limit",
    "CELERYD_TASK_TIME_LIMIT": "task_time_limit",
    "CELERY_WORKER_DIRECT": "worker_direct",
    "CELERY_DISABLE_RATE_LIMITS": "worker_disable_rate_limits",
    "CELERY_ENABLE_REMOTE_CONTROL": "worker_enable_remote_control",
    "CELERYD_WORKER_LOST_WAIT": "worker_lost_wait",
    "CELERY_REDIRECT_STDOUTS": "worker_redirect_stdouts",
    "CELERY_REDIRECT_STDOUTS_LEVEL": "worker_redirect_stdouts_level",
    "CELERY_SEND_EVENTS": "worker_send_task_events",
    "BROKER_URL": "broker_url",
}


def old_name(name: str) -> str:
    """The regular old spelling of today's name: ``task_routes`` was ``CELERY_ROUTES``."""
    for section, prefix in _PREFIXES.items():
        if name.startswith(section):
            return prefix + name[len(section) :].upper()
    return name.upper()


def old_names(names: Iterable[str]) -> dict[str, str]:
    """Every upper-case spelling of ``names``: the old one, and today's in capitals."""
    spellings: dict[str, str] = {}
    for name in names:
        spellings[name.upper()] = name
    for name in names:
        spellings[old_name(name)] = name
    spellings.update(_IRREGULAR)
    return spellings
