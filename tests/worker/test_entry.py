"""What a worker says of its app before it starts."""

from __future__ import annotations

from engine.app import Engine
from engine.worker.entry import describe
from engine.worker.options import WorkerOptions


def _warnings(app: Engine) -> list[str]:
    told: list[str] = describe(app, WorkerOptions())["warnings"]
    return told


def test_a_changed_setting_without_effect_is_named() -> None:
    app = Engine(
        "told",
        broker="memory://",
        set_as_current=False,
        beat_max_loop_interval=5,
        event_queue_prefix="celeryev",  # the default
        worker_prefetch=1,  # this one works
    )
    assert _warnings(app) == ["set, but without effect yet: beat_max_loop_interval"]


def test_an_app_with_plain_settings_is_warned_of_nothing() -> None:
    assert _warnings(Engine("plain", broker="memory://", set_as_current=False)) == []
