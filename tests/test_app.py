"""The app: settings, the registry, loading, connections, and forks."""

from __future__ import annotations

import sys
import types
from datetime import timezone
from pathlib import Path
from typing import Any

import pytest

from engine import context, shared_task
from engine.app import Engine
from engine.codec import Delivery
from engine.context import current_app, set_current_app
from engine.errors import (
    ConfigurationError,
    ContentDisallowed,
    DecodeError,
    MessageTooLarge,
    NotRegistered,
    UnknownSetting,
)
from engine.task import Task


@pytest.fixture
def app(unique: str) -> Engine:
    return Engine("proj", broker=f"memory://{unique}")


# -- settings ------------------------------------------------------------------------------------------


def test_making_an_app_reads_and_connects_to_nothing() -> None:
    app = Engine(config_source="a_module_that_does_not_exist", broker="amqp://127.0.0.1:1//")
    app.task(lambda: 1)
    with pytest.raises(ConfigurationError, match="a_module_that_does_not_exist"):
        app.conf  # noqa: B018


def test_settings_by_keyword_and_object() -> None:
    app = Engine("x", broker="memory://k", task_default_queue="kw", config_source={"task_time_limit": 5})
    assert app.conf.broker_url == "memory://k"
    assert (app.conf.task_default_queue, app.conf.task_time_limit) == ("kw", 5.0)
    app.config_from_object({"task_time_limit": 7, "task_default_queue": "object"})
    assert (app.conf.task_default_queue, app.conf.task_time_limit) == ("kw", 7.0)
    with pytest.raises(UnknownSetting):
        Engine(task_defualt_queue="x").conf  # noqa: B018


def test_what_was_set_by_hand_stays_over_a_new_object(app: Engine) -> None:
    app.conf.task_default_queue = "by hand"
    app.config_from_object({"task_default_queue": "object", "task_time_limit": 3})
    assert (app.conf.task_default_queue, app.conf.task_time_limit) == ("by hand", 3.0)


def test_config_from_envvar(app: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("env_config")
    module.task_default_queue = "from-env"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "env_config", module)
    monkeypatch.setenv("MY_CONFIG", "env_config")
    assert app.config_from_envvar("MY_CONFIG")
    assert app.conf.task_default_queue == "from-env"
    assert not app.config_from_envvar("UNSET_HERE", silent=True)
    with pytest.raises(ConfigurationError, match="UNSET_HERE is not set"):
        app.config_from_envvar("UNSET_HERE")


def test_changed_settings_are_used(app: Engine) -> None:
    @app.task
    def add(a: int) -> int:
        return a

    add.delay(1)
    app.conf.task_default_queue = "second"
    add.delay(2)
    app.conf.task_routes = {add.name: "third"}
    add.delay(3)
    transport = app.open_transport()
    assert [transport.queue_state(name).ready for name in ("celery", "second", "third")] == [1, 1, 1]


def test_time_zone(app: Engine) -> None:
    assert app.timezone is timezone.utc
    app.conf.update(timezone="Europe/Berlin", enable_utc=False)
    assert str(app.timezone) == "Europe/Berlin"
    assert app.now().tzinfo is app.timezone
    app.conf.timezone = "Nowhere/Town"
    with pytest.raises(ConfigurationError, match="no time zone 'Nowhere/Town'"):
        app.timezone  # noqa: B018


# -- tasks ---------------------------------------------------------------------------------------------


def test_names(app: Engine) -> None:
    @app.task
    def add() -> None: ...

    @app.task(name="mine")
    def other() -> None: ...

    assert (add.name, other.name) == ("tests.test_app.add", "mine")
    assert app.gen_task_name("f", "__main__") == "proj.f"
    assert set(app.tasks) == {add.name, "mine"}
    assert app.task(add.__wrapped__) is add  # type: ignore[attr-defined]


def test_not_registered_names_the_nearest(app: Engine) -> None:
    @app.task(name="proj.add")
    def add() -> None: ...

    assert app.find_task("proj.add") is add
    with pytest.raises(NotRegistered, match=r"'proj\.ad': did you mean 'proj\.add'\?"):
        app.find_task("proj.ad")
    with pytest.raises(TypeError, match="give options by name"):
        app.task("proj.add")  # type: ignore[call-overload]


def test_load_imports_the_modules(unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = unique.replace("-", "")
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("")
    (tmp_path / name / "tasks.py").write_text("")
    (tmp_path / f"{name}_more.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    app = Engine("load", broker="memory://load", include=[f"{name}_more"])
    app.autodiscover_tasks([name])
    assert f"{name}.tasks" not in sys.modules
    app.load()
    app.load()
    assert {f"{name}.tasks", f"{name}_more"} <= set(sys.modules)


def test_shared_tasks_belong_to_every_app(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "_shared", [])

    @shared_task(name="lib.shared")
    def shared(n: int) -> int:
        return n + 1

    first, second = (Engine(name, broker=f"memory://{name}") for name in ("one", "two"))
    assert {"lib.shared"} <= set(first.tasks) & set(second.tasks)
    assert shared(1) == 2
    assert shared.app is second
    first.set_current()
    assert shared.app is first


def test_the_current_app() -> None:
    app = Engine("now")
    assert current_app() is app
    other = Engine("quiet", set_as_current=False)
    assert current_app() is app
    assert other is not app
    set_current_app(None)
    with pytest.raises(ConfigurationError, match="there is no app yet"):
        current_app()
    set_current_app(app)


def test_an_app_is_not_pickled(app: Engine) -> None:
    with pytest.raises(TypeError, match="import it where it is needed"):
        app.__reduce__()


# -- messages ------------------------------------------------------------------------------------------


def delivery(body: bytes, content_type: str = "application/json", **headers: Any) -> Delivery:
    found = {"task": "t", "id": "i", **headers}
    return Delivery(body, content_type=content_type, content_encoding="utf-8", headers=found)


def test_decode_refuses_what_is_not_accepted(app: Engine) -> None:
    assert app.decode(delivery(b"[[1], {}, {}]")).args == [1]
    with pytest.raises(ContentDisallowed):
        app.decode(delivery(b"cos\nsystem\n(S'x'\ntR.", "application/x-python-serialize"))
    with pytest.raises(DecodeError):
        app.decode(delivery(b"{{{"))


def test_json_is_refused_like_any_other_type(app: Engine) -> None:
    app.conf.accept_content = ["pickle", "application/x-msgpack"]
    for kind in ("application/json", "application/json; charset=utf-8", "Application/JSON"):
        with pytest.raises(ContentDisallowed, match=r"(?i)json"):
            app.decode(delivery(b"[[1], {}, {}]", kind))
    app.conf.accept_content = ["application/json"]
    assert app.decode(delivery(b"[[1], {}, {}]")).args == [1]


def test_a_compressed_bomb_is_refused(app: Engine) -> None:
    import zlib

    app.conf.broker_max_message_size = 100_000
    bomb = zlib.compress(b"[" + b" " * 50_000_000 + b"]")
    with pytest.raises(MessageTooLarge):
        app.decode(delivery(bomb, compression="application/x-gzip"))
    with pytest.raises(ContentDisallowed):
        app.decode(delivery(bomb, "application/x-python-serialize", compression="application/x-gzip"))


def test_typed_calls(app: Engine) -> None:
    """What mypy says about these lines is checked by mypy; that they run, here."""

    @app.task
    def add(a: int, b: int = 0) -> int:
        return a + b

    @app.task(bind=True)
    def bound(self: Task[Any, Any], a: int) -> str:
        return self.name

    @app.task
    async def later(a: int) -> float:
        return a / 2

    assert add.apply((1, 2)).get() == 3
    assert bound(1) == bound.name
    assert later.apply((3,)).get() == 1.5
