"""The settings that are accepted and do nothing yet, because what they are for is not built.

A worker names those that an app has changed, and docs/settings.md marks them. A test holds this list against
what the modules really read, so a setting leaves it in the change that gives it its effect.
"""

from __future__ import annotations

from typing import Any

from engine.settings_rows import ROWS

UNBUILT: frozenset[str] = frozenset(
    {
        "beat_cron_starting_deadline",
        "beat_max_loop_interval",
        "beat_schedule",
        "beat_schedule_filename",
        "event_exchange",
        "event_queue_durable",
        "event_queue_exclusive",
        "event_queue_expires",
        "event_queue_prefix",
        "event_queue_ttl",
        "event_serializer",
        "result_chord_expires",
        "result_chord_join_timeout",
        "task_repr_maxlevels",
        "task_send_sent_event",
        "worker_send_task_events",
    }
)

_DEFAULTS = {row.name: row.default for row in ROWS if row.name in UNBUILT}


def asked_in_vain(conf: Any) -> list[str]:
    """The settings of ``conf`` that somebody changed from their default and that have no effect yet."""
    changed: dict[str, Any] = conf.changed
    return sorted(name for name, default in _DEFAULTS.items() if changed.get(name, default) != default)
