"""Settings: sources and their priority, names and their spellings."""

from __future__ import annotations

import sys
import types
import warnings
from typing import Any

import pytest
from celery.app import defaults as celery_defaults

from engine import settings as settings_module
from engine.errors import ConfigurationError, UnknownSetting
from engine.settings import ROWS, Settings, canonical_name


def make(keywords: dict[str, Any] | None = None, source: Any = None, **more: Any) -> Settings:
    more.setdefault("environ", {})
    return Settings(keywords, source, **more)


@pytest.fixture
def fresh_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings_module, "_warned", set())


def config_module(name: str, **values: Any) -> types.ModuleType:
    module = types.ModuleType(name)
    vars(module).update(values)
    return module


def test_defaults_that_a_celery_client_shares_are_celerys() -> None:
    conf = make()
    for name in (
        *("task_default_queue", "task_default_queue_type", "task_default_exchange_type", "task_serializer"),
        *("accept_content", "task_create_missing_queues", "task_default_delivery_mode", "task_protocol"),
        *("event_exchange", "control_exchange", "result_serializer", "event_serializer"),
    ):
        assert conf[name] == celery_defaults.DEFAULTS[name], name
    assert conf.task_default_exchange == conf.task_default_routing_key == "celery"


def test_ours_are_safe_and_need_no_server() -> None:
    conf = make()
    assert conf.broker_url == "sqlite:///engine.db"
    assert conf.task_acks_late is True
    assert conf.producer_confirms is True
    assert conf.result_backend is None


def test_priority_of_sources() -> None:
    environ = {
        "ENGINE_TASK_DEFAULT_QUEUE": "env",
        "ENGINE_TASK_TIME_LIMIT": "9",
        "ENGINE_RESULT_EXTENDED": "yes",
    }
    source = {"task_default_queue": "source", "task_time_limit": 8}
    conf = make({"task_default_queue": "keyword"}, source, environ=environ)
    assert (conf.task_default_queue, conf.task_time_limit, conf.result_extended) == ("keyword", 8.0, True)
    conf.task_default_queue = "later"
    assert conf.task_default_queue == "later"
    assert set(conf.changed) == {"task_default_queue", "task_time_limit", "result_extended"}


def test_celerys_environment_is_read_below_ours() -> None:
    assert make(environ={"CELERY_BROKER_URL": "redis://a"}).broker_url == "redis://a"
    both = {"CELERY_BROKER_URL": "redis://a", "ENGINE_BROKER_URL": "redis://b"}
    assert make(environ=both).broker_url == "redis://b"


def test_every_name_celery_knows_is_known() -> None:
    missing = [name for name in celery_defaults.SETTING_KEYS if canonical_name(name) is None]
    assert missing == []


def test_every_old_name_means_what_it_means_to_celery() -> None:
    wrong = {
        old: (canonical_name(old), new)
        for old, new in celery_defaults._TO_NEW_KEY.items()
        if canonical_name(old) != new
    }
    assert wrong == {}


def test_old_spellings_are_read() -> None:
    conf = make(
        source=config_module("c", BROKER_URL="redis://x", CELERY_ACKS_LATE=False, CELERYD_CONCURRENCY=3)
    )
    assert (conf.broker_url, conf.task_acks_late, conf.worker_concurrency) == ("redis://x", False, 3)
    assert conf["CELERY_ACKS_LATE"] is False


@pytest.mark.parametrize("name", ["task_rutes", "broker_ur", "CELERY_ROUTE"])
def test_unknown_names_the_nearest(name: str) -> None:
    with pytest.raises(UnknownSetting, match=r"did you mean '(task_routes|broker_url|CELERY_ROUTES)'"):
        make({name: 1})


def test_unknown_with_nothing_near() -> None:
    with pytest.raises(UnknownSetting, match=r"there is no setting 'zzz'$"):
        make({"zzz": 1})


def test_reading_an_unknown_one() -> None:
    conf = make()
    with pytest.raises(AttributeError, match="did you mean 'task_routes'"):
        conf.task_rout  # noqa: B018
    with pytest.raises(KeyError):
        conf["nothing_like_it"]
    assert conf.get("nothing_like_it", 7) == 7


def test_a_config_module_may_hold_other_things() -> None:
    module = config_module(
        "celeryconfig", os=sys, timedelta=type, HERE="/tmp", redis_dsn="x", task_routes={"a": "b"}, helper=len
    )
    assert make(source=module).task_routes == {"a": "b"}


def test_a_typo_in_a_config_module_is_told() -> None:
    with pytest.raises(UnknownSetting, match="task_serializer"):
        make(source=config_module("celeryconfig", task_serialiser="json"))


def test_namespace_as_django_has_it() -> None:
    module = config_module("settings", CELERY_BROKER_URL="redis://d", CELERY_TASK_TIME_LIMIT=5, DEBUG=True)
    conf = make(source=module, namespace="CELERY")
    assert (conf.broker_url, conf.task_time_limit) == ("redis://d", 5.0)


def test_source_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    module = config_module(
        "some_config", task_default_queue="named", section=types.SimpleNamespace(enable_utc=False)
    )
    monkeypatch.setitem(sys.modules, "some_config", module)
    assert make(source="some_config").task_default_queue == "named"
    assert make(source="some_config:section").enable_utc is False


@pytest.mark.parametrize("path", ["no_such_module_here", "sys:nothing"])
def test_source_that_is_not_there(path: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot read settings"):
        make(source=path)


def test_without_meaning_warns_once_and_says_why(fresh_warnings: None) -> None:
    with pytest.warns(UserWarning, match="worker_pool has no effect: each child holds its own connection"):
        conf = make({"worker_pool": "gevent"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make({"worker_pool": "gevent"})
    assert conf.worker_pool is None


def test_listeners_hear_of_changes() -> None:
    conf, heard = make(), []
    conf.on_change(lambda: heard.append(conf.task_default_queue))
    conf.update({"task_default_queue": "a"}, enable_utc=False)
    assert heard == ["a"]


def test_a_refused_update_changes_nothing() -> None:
    conf = make()
    with pytest.raises(ConfigurationError):
        conf.update(task_default_queue="new", task_time_limit="soon")
    assert conf.task_default_queue == "celery"


def test_broker_in_parts() -> None:
    conf = make({"broker_host": "h", "broker_user": "u", "broker_password": "p@w", "broker_vhost": "v"})
    assert conf.broker_url == "amqp://u:p%40w@h/v"


@pytest.mark.parametrize(
    ("given", "prefetch"),
    [
        ({}, None),
        ({"worker_prefetch": 3}, 3),
        ({"worker_prefetch_multiplier": 4}, 4),
        ({"worker_prefetch_multiplier": 0}, None),
        ({"worker_disable_prefetch": True, "worker_prefetch_multiplier": 4}, 1),
    ],
)
def test_prefetch_by_any_of_its_names(given: dict[str, Any], prefetch: int | None) -> None:
    assert make(given).worker_prefetch == prefetch


def test_each_row_is_documented_and_named_once() -> None:
    names = [row.name for row in ROWS]
    assert len(names) == len(set(names))
    assert all(row.doc.endswith((".", ")", "}")) and len(row.doc) > 8 for row in ROWS)


def test_default_mappings_are_not_shared() -> None:
    make().broker_transport_options["x"] = 1
    assert make().broker_transport_options == {}


@pytest.mark.usefixtures("fresh_warnings")
def test_a_misspelled_variable_is_told_once_and_others_are_not_ours() -> None:
    with pytest.warns(UserWarning, match="ENGINE_BROKER_ULR has no effect: did you mean ENGINE_BROKER_URL?"):
        make(environ={"ENGINE_BROKER_ULR": "redis://a"})
    make(
        environ={"ENGINE_BROKER_ULR": "redis://a", "ENGINE_DEBUG": "1", "ENGINE_ROOM": "x", "BROKER_ULR": "x"}
    )


@pytest.mark.parametrize("wrong", ["many", -1, 1.5])
def test_concurrency_is_a_number(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="worker_concurrency"):
        make({"worker_concurrency": wrong})
