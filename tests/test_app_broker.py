"""The app's connections and result stores: where they come from, threads and forks."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from engine.app import Engine
from engine.errors import ConfigurationError, ContentDisallowed, ResultsDisabled
from engine.results.base import ResultMeta
from tests.forked import in_child


@pytest.fixture
def app(unique: str) -> Engine:
    return Engine("proj", broker=f"memory://{unique}")


def test_transport_options_come_from_the_settings() -> None:
    app = Engine(
        broker="memory://o",
        broker_heartbeat=9,
        broker_connection_timeout=2,
        broker_transport_options={"visibility_timeout": 60, "confirm_timeout": 5, "global_keyprefix": "p:"},
        broker_use_ssl={"ca_certs": "/ca"},
    )
    options = app.transport_options()
    assert (options.heartbeat, options.connect_timeout, options.visibility_timeout) == (9.0, 2.0, 60)
    assert (options.confirm_timeout, options.extra) == (5, {"global_keyprefix": "p:"})
    assert options.ssl == {"ca_certs": "/ca"}


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({"broker": "sqlite:///x.db"}, "sqlite:///x.db"),
        ({"broker": "sqlite:///x.db", "backend": "disabled"}, None),
        ({"broker": "memory://m"}, "memory://m"),
        ({"broker": "amqp://h"}, None),
        ({"broker": "amqp://h", "backend": "rpc://"}, "rpc://"),
        ({"broker": "redis://h"}, None),
    ],
)
def test_where_results_go(settings: dict[str, Any], url: str | None) -> None:
    app = Engine(**settings)
    assert app.result_url == url
    if url is None:
        assert app.open_store() is None
        with pytest.raises(ResultsDisabled):
            app.results  # noqa: B018


def test_a_backend_nobody_has_is_told() -> None:
    with pytest.raises(ConfigurationError, match="no result store for 'mongodb://u:\\*\\*@h'"):
        Engine(backend="mongodb://u:canary@h").open_store()


def test_each_thread_has_its_own_store(app: Engine) -> None:
    stores, oids = [app.results, app.results], [app.thread_oid, app.thread_oid]
    thread = threading.Thread(target=lambda: (stores.append(app.results), oids.append(app.thread_oid)))
    thread.start()
    thread.join(20)
    assert stores[0] is stores[1] is not stores[2]
    assert oids[0] == oids[1] != oids[2]


def test_a_forked_process_has_its_own_everything(tmp_path: Path) -> None:
    app = Engine("fork", broker=f"sqlite:///{tmp_path}/f.db")

    @app.task(name="fork.add")
    def add(a: int) -> int:
        return a

    add.delay(1)
    store, oid, link = app.results, app.thread_oid, app.links.take()
    app.links.give(link)

    def child() -> bool:
        add.delay(2)
        app.results.store([ResultMeta("r", "SUCCESS", 5)])
        return app.results is not store and app.thread_oid != oid and app.links.take() is not link

    assert in_child(child)
    add.delay(3)
    assert app.open_transport().queue_state("celery").ready == 3
    assert app.AsyncResult("r").get(timeout=10) == 5
    app.close()


def test_closing_and_using_it_again(app: Engine) -> None:
    @app.task(name="proj.again")
    def again() -> None: ...

    with app:
        again.delay()
    again.delay()
    assert app.open_transport().queue_state("celery").ready == 2


def test_results_are_read_where_their_type_is_accepted(app: Engine) -> None:
    app.results.store([ResultMeta("r", "SUCCESS", 1)])
    assert app.AsyncResult("r").get(timeout=1) == 1
    app.conf.result_accept_content = ["msgpack"]
    with pytest.raises(ContentDisallowed, match="add 'json' to result_accept_content"):
        app.AsyncResult("r").get(timeout=1)
    app.conf.update(accept_content=["pickle"], result_accept_content=["json"])
    assert app.AsyncResult("r").get(timeout=1) == 1
    app.conf.result_accept_content = None
    with pytest.raises(ContentDisallowed):
        app.AsyncResult("r").state  # noqa: B018 - accept_content holds
