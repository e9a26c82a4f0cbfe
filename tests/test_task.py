"""Tasks: how they are called, what goes on the wire, and how they are tried again."""

from __future__ import annotations

import json
import pickle
import time
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from kombu import Queue

from engine.app import Engine
from engine.async_result import AsyncResult
from engine.canvas import chain
from engine.codec import Message
from engine.context import Context
from engine.dispatch import timestamp
from engine.errors import ConfigurationError, Ignore, Reject
from engine.outbox import Outbox
from engine.task import Task
from tests.inline_worker import run_all


@pytest.fixture
def app(unique: str) -> Engine:
    return Engine("proj", broker=f"memory://{unique}")


@pytest.fixture
def add(app: Engine) -> Task[[int, int], int]:
    @app.task
    def add(a: int, b: int = 1) -> int:
        return a + b

    return add


def sent(task: Task[Any, Any], args: Any = (1, 2), **options: Any) -> Message:
    """The one message of a call."""
    box = Outbox()
    task.apply_async(args, producer=box, **options)
    (message,) = box.messages
    return message


def headers(task: Task[Any, Any], args: Any = (1, 2), **options: Any) -> dict[str, Any]:
    found = sent(task, args, **options).headers
    assert found is not None
    return found


def test_it_is_still_a_function(add: Task[[int, int], int]) -> None:
    assert add(1, 2) == 3
    assert add.__name__ == "add"
    assert add.request.called_directly


@pytest.mark.parametrize("target", ["task", "class"])
def test_delay_goes_through_apply_async_whoever_replaced_it(
    add: Task[[int, int], int], monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    add.delay(1, 2)  # from here on it may take the short way
    add.delay(1, 2)
    calls = []
    replaced = add if target == "task" else Task
    monkeypatch.setattr(replaced, "apply_async", lambda *given, **options: calls.append((given, options)))
    add.delay(1, b=2)
    assert [given[-2:] for given, _ in calls] == [((1,), {"b": 2})]


def test_delay_goes_through_a_subclass(app: Engine) -> None:
    class Counted(Task[Any, Any]):
        calls = 0

        def apply_async(self, *given: Any, **options: Any) -> Any:
            self.calls += 1
            return super().apply_async(*given, **options)

    @app.task(base=Counted)
    def counted() -> None: ...

    for _ in range(3):
        counted.delay()
    assert counted.calls == 3


def test_arguments_are_checked_as_typing_says(add: Task[[int, int], int]) -> None:
    add.delay(1)
    with pytest.raises(TypeError):
        add.delay(1, 2, 3)  # type: ignore[call-arg]
    add.typing = False
    add.delay(1, 2, 3)  # type: ignore[call-arg]


def test_delay_sends_celerys_message(app: Engine, add: Task[[int, int], int]) -> None:
    result = add.delay(1, b=5)
    delivery = app.open_transport().get("celery")
    assert delivery is not None
    assert delivery.header("task") == add.name
    assert delivery.header("id") == delivery.properties["correlation_id"] == result.id
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    assert json.loads(delivery.body) == [[1], {"b": 5}, embed]
    assert (delivery.exchange, delivery.routing_key) == ("", "celery")
    assert delivery.properties["delivery_mode"] == 2


def test_full_headers_are_celerys(app: Engine, add: Task[[int, int], int]) -> None:
    app.conf.task_lean_headers = False
    found = headers(add, task_id="i", kwargs={})
    wanted = {"lang": "py", "task": add.name, "id": "i", "retries": 0, "timelimit": [None, None]}
    wanted |= {"root_id": "i", "parent_id": None, "argsrepr": "(1, 2)", "kwargsrepr": "{}", "group": None}
    wanted |= {"eta": None, "expires": None, "ignore_result": False, "shadow": None, "stamps": None}
    assert {name: found[name] for name in wanted if name != "stamps"} == {
        name: value for name, value in wanted.items() if name != "stamps"
    }
    assert found["origin"].startswith("gen")


@pytest.mark.parametrize("bad", [((1, 2, 3), {}), ((), {}), ((1,), {"c": 1})])
def test_wrong_arguments_are_told_at_once(add: Task[[int, int], int], bad: Any) -> None:
    with pytest.raises(TypeError):
        add.apply_async(*bad)


def test_typing_can_be_switched_off(app: Engine) -> None:
    @app.task(typing=False)
    def loose(a: int) -> None: ...

    assert sent(loose, (1, 2, 3))


def test_arguments_that_are_none_of_it(add: Task[[int, int], int]) -> None:
    add.typing = False
    with pytest.raises(TypeError, match="list or a tuple"):
        add.apply_async("ab")
    with pytest.raises(TypeError, match="keyword arguments are a mapping"):
        add.apply_async((1,), [1])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        *((name, "x", "is a number of seconds") for name in ("time_limit", "soft_time_limit", "countdown")),
        *((name, float("nan"), "nan") for name in ("time_limit", "soft_time_limit", "countdown", "expires")),
        *((name, float("inf"), "inf") for name in ("time_limit", "soft_time_limit", "countdown", "expires")),
        *((name, 1e300, r"100 years at most, not 1e\+300") for name in ("countdown", "expires")),
        *((name, 10**400, "inf") for name in ("countdown", "expires")),
        ("time_limit", -1, "from 0 on, not -1"),
        ("expires", [], "expires is a number of seconds, a datetime or ISO 8601 text, not list"),
        ("eta", 5, "eta is a datetime"),
        ("retries", -1, "retries is a whole number from 0 on, not -1"),
        ("retries", 1.5, "retries is a whole number, not 1.5"),
        *(("priority", bad, "priority is a whole number") for bad in ("high", 2.5, -1, 300, True)),
        ("priority", float("nan"), "priority is a whole number"),
        *((name, 5, f"{name} is a string, not int") for name in ("group_id", "root_id", "routing_key")),
        *((name, 5, f"{name} is a string, not int") for name in ("task_id", "serializer", "reply_to")),
        ("queue", 5, "queue is a queue's name or a Queue, not int"),
        ("exchange", 5, "exchange is an exchange's name or an Exchange, not int"),
        *((name, "x", f"{name} is a mapping, not str") for name in ("headers", "retry_policy")),
        *((name, 5, f"{name} is a mapping, not int") for name in ("headers", "retry_policy")),
        ("headers", {1: 2}, "headers has strings as keys, not int"),
        ("chord", "x", "chord takes a signature"),
        *((name, bad, f"{name} takes a signature") for name in ("link", "link_error") for bad in (5, ["x"])),
        ("chain", 5, "chain is a list of signatures"),
        ("coutdown", 3, "no option 'coutdown': did you mean 'countdown'"),
        ("time_limits", 3, "did you mean 'time_limit'"),
        ("timeout", "1", "timeout is a number of seconds, not str"),
    ],
)
def test_what_no_worker_could_read_is_not_sent(
    app: Engine, add: Task[[int, int], int], option: str, value: Any, told: str
) -> None:
    with pytest.raises((TypeError, ConfigurationError), match=told):
        add.apply_async((1, 2), **{option: value})
    with pytest.raises((TypeError, ConfigurationError), match=told):
        app.send_task("x", **{option: value})
    assert run_all(app) == []


def test_attributes_and_routes_are_checked_like_options(app: Engine) -> None:
    hurried = app.task(name="h", time_limit="x")(lambda: None)
    with pytest.raises(TypeError, match="time_limit is a number of seconds"):
        hurried.delay()
    app.conf.task_routes = {"r": {"queue": "q", "priority": "high"}}
    with pytest.raises(TypeError, match="priority is a whole number"):
        app.send_task("r")


def test_wrong_options_fail_eager_calls_and_retries_too(app: Engine) -> None:
    @app.task(bind=True, name="again")
    def again(self: Any) -> None:
        self.retry(coutdown=3)

    again.delay()
    ((_, outcome),) = run_all(app)
    assert outcome.state == "FAILURE"
    assert "did you mean 'countdown'" in str(outcome.result)
    app.conf.task_always_eager = True
    with pytest.raises(TypeError, match="did you mean 'countdown'"):
        again.apply_async(coutdown=3)


def test_a_misspelled_attribute_is_told_and_others_are_the_users_own(app: Engine) -> None:
    with pytest.warns(UserWarning, match=r"no attribute 'max_retrys': did you mean 'max_retries'") as told:
        app.task(name="m", max_retrys=3)(lambda: None)
    assert told[0].filename == __file__
    own = app.task(name="o", owner="me", resultrepr_maxsize=5, acks_on_failure=True)(lambda: None)
    assert own.owner == "me"  # type: ignore[attr-defined]


def test_names_ids_and_arguments_of_a_wrong_kind(app: Engine, add: Task[[int, int], int]) -> None:
    with pytest.raises(ConfigurationError, match="name is empty"):
        app.send_task("")
    with pytest.raises(TypeError, match="a task's name is a string, not int"):
        app.send_task(5)  # type: ignore[arg-type]
    add.delay(1, 2)  # from now on in fewer steps
    with pytest.raises(TypeError, match="task_id is a string, not int"):
        add.apply_async((1, 2), task_id=5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a list or a tuple, not int"):
        add.apply_async(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="timeout is a number of seconds, not str"):
        add.AsyncResult("i").get(timeout="1")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="timeout is nan"):
        add.AsyncResult("i").get(timeout=float("nan"))
    with pytest.raises(TypeError, match="made of signatures"):
        chain(1, 2)


def test_options_that_are_right_pass(add: Task[[int, int], int]) -> None:
    assert sent(add, priority=255).priority == 255
    assert sent(add, x_own="fine", headers={"a": 1}, retries=0, expires=timedelta(seconds=9)).headers
    assert sent(add, stamped_headers=["coutdown"], coutdown=1, countdown=-5, time_limit=0)
    assert sent(add, link=[add.s(1), dict(add.s(2))], link_error=add.s(), queue=Queue("q"))


def test_countdown_and_eta(add: Task[[int, int], int]) -> None:
    message = sent(add, countdown=60)
    assert message.due_at == pytest.approx(time.time() + 60, abs=5)
    assert timestamp((message.headers or {})["eta"]) == pytest.approx(message.due_at, abs=0.001)
    moment = datetime(2030, 1, 2, 3, 4, 5)  # noqa: DTZ001 - naive means UTC
    message = sent(add, eta=moment)
    assert (message.headers or {})["eta"] == "2030-01-02T03:04:05"
    assert message.due_at == moment.replace(tzinfo=timezone.utc).timestamp()
    aware = datetime(2030, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    assert sent(add, eta=aware).due_at == aware.timestamp()
    assert sent(add, countdown=0).due_at is None
    with pytest.raises(TypeError, match="eta is a datetime"):
        sent(add, eta=5)


def test_expires(add: Task[[int, int], int]) -> None:
    message = sent(add, expires=30)
    assert message.expiration_ms == pytest.approx(30_000, abs=3000)
    assert timestamp((message.headers or {})["expires"]) == pytest.approx(time.time() + 30, abs=5)
    assert sent(add, expires=timedelta(minutes=1)).expiration_ms == pytest.approx(60_000, abs=3000)
    assert sent(add, expires=datetime(2001, 1, 1, tzinfo=timezone.utc)).expiration_ms is None


def test_options_of_the_call_win_over_the_task_and_both_over_the_route(app: Engine) -> None:
    app.conf.task_routes = {"*": {"queue": "routed", "priority": 1, "serializer": "json"}}

    @app.task(queue="tasks", priority=2, time_limit=9, name="t")
    def task() -> None: ...

    assert (sent(task, ()).routing_key, sent(task, ()).priority) == ("tasks", 2)
    called = sent(task, (), queue=Queue("called"), priority=3, time_limit=4, soft_time_limit=2)
    assert (called.routing_key, called.priority) == ("called", 3)
    assert (called.headers or {})["timelimit"] == [4, 2]
    with pytest.raises(ConfigurationError, match="longer than time_limit"):
        sent(task, (), soft_time_limit=10)


def test_further_options_reach_the_message(add: Task[[int, int], int]) -> None:
    message = sent(
        add,
        task_id="mine",
        headers={"tenant": 7},
        shadow="other name",
        root_id="r",
        parent_id="p",
        group_id="g",
        group_index=2,
        reply_to="me",
        delivery_mode="transient",
        message_id="m",
        stamped_headers=["stamp"],
        stamp="s",
        link=add.s(1),
        link_error=[add.s(2)],
    )
    found = message.headers or {}
    wanted = {"id": "mine", "tenant": 7, "shadow": "other name", "root_id": "r", "parent_id": "p"}
    wanted |= {"group": "g", "group_index": 2, "stamped_headers": ["stamp"], "stamps": {"stamp": "s"}}
    assert {name: found[name] for name in wanted} == wanted
    assert (message.reply_to, message.delivery_mode, message.message_id) == ("me", 1, "m")
    embed = json.loads(message.body)[2]
    assert [embed["callbacks"][0]["args"], embed["errbacks"][0]["args"]] == [[1], [2]]


def test_serializer_and_compression(app: Engine, add: Task[[int, int], int]) -> None:
    app.conf.accept_content = ["json", "msgpack"]
    add.apply_async((1, 2), serializer="msgpack", compression="gzip")
    transport = app.open_transport()
    delivery = transport.get("celery")
    assert delivery is not None
    assert delivery.content_type == "application/x-msgpack"
    assert delivery.header("compression") == "application/x-gzip"
    assert list(app.decode(delivery).args) == [1, 2]


def test_ignored_results_are_not_waited_for(app: Engine) -> None:
    @app.task(ignore_result=True)
    def silent() -> int:
        return 1

    assert silent.delay().get() is None
    assert headers(silent, ())["ignore_result"] is True
    assert headers(silent, (), ignore_result=False)["ignore_result"] is False, "in lean headers too"
    transport = app.open_transport()
    transport.purge("celery")
    for _ in range(3):  # the plain way out begins with the second call
        app.send_task("elsewhere.task")
        delivery = transport.get("celery")
        assert delivery is not None
        assert delivery.header("ignore_result") is None, "whoever runs it knows"


def test_send_task_by_name(app: Engine) -> None:
    result = app.send_task("elsewhere.task", [1], {"k": 2}, queue="far")
    delivery = app.open_transport().get("far")
    assert delivery is not None
    assert (delivery.header("task"), delivery.header("id")) == ("elsewhere.task", result.id)
    assert isinstance(result, AsyncResult)


def test_calls_inside_a_task_know_where_they_come_from(app: Engine, add: Task[[int, int], int]) -> None:
    @app.task
    def parent() -> None:
        add.delay(1, 2)

    outer = parent.apply_async(root_id="root")
    (_, _), (inner, _) = run_all(app)
    assert (inner.root_id, inner.parent_id) == ("root", outer.id)
    assert outer.children == [AsyncResult(inner.id)]


def test_pickled_by_name(app: Engine, add: Task[[int, int], int]) -> None:
    assert pickle.loads(pickle.dumps(add)) is add


def test_class_based_tasks(app: Engine) -> None:
    class Counter(Task[[int], int]):
        name = "counter"
        calls = 0

        def run(self, step: int) -> int:
            self.calls += step
            return self.calls

    counter = app.register_task(Counter)
    counter.delay(2)
    counter.delay(3)
    assert [outcome.result for _, outcome in run_all(app)] == [2, 5]


def test_attributes_left_open_come_from_the_settings(app: Engine) -> None:
    app.conf.update(
        task_acks_late=False, task_track_started=True, task_annotations={"*": {"rate_limit": "1/s"}}
    )

    @app.task(track_started=False)
    def task() -> None: ...

    found = app.find_task(task.name)
    assert (found.acks_late, found.acks_early, found.track_started, found.rate_limit) == (
        False,
        True,
        False,
        "1/s",
    )


def test_update_state(app: Engine) -> None:
    @app.task(bind=True)
    def slow(self: Any) -> None:
        self.update_state(state="PROGRESS", meta={"done": 5})
        raise Ignore

    result = slow.delay()
    run_all(app)
    assert (result.state, result.info) == ("PROGRESS", {"done": 5})


def test_push_request_for_tests_of_tasks(app: Engine) -> None:
    @app.task(bind=True)
    def who(self: Any) -> Any:
        return self.request.id

    who.push_request(Context(id="pushed"))
    assert who.run() == "pushed"
    who.pop_request()
    assert who.request.id is None
    assert Reject("why", requeue=True).requeue
