"""Real Celery workers, 5.6 and 5.7, run messages with lean headers: results, retries, canvas and monitors.

What may be left out, and what a worker makes of its absence, is stated here and nowhere else.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from celery import chain, chord, group
from celery.signals import before_task_publish

from engine.codec import TaskMessage, encode_task_headers
from tests.interop.lean_client import LeanClient, celery_worker
from tests.interop.processes import wait_for
from tools.brokers import RabbitMQ, Redis

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]
WAIT_S = 30

#: Every header of a full message of a plain task that a worker does without.
DISPENSABLE = [
    "lang", "shadow", "eta", "expires", "group", "group_index", "retries", "timelimit", "root_id",
    "parent_id", "argsrepr", "kwargsrepr", "origin", "ignore_result", "replaced_task_nesting",
    "stamped_headers", "stamps",
]  # fmt: skip


@pytest.fixture(scope="module", params=["amqp", "redis"])
def client(
    request: pytest.FixtureRequest,
    celery_python: str,
    rabbitmq: RabbitMQ,
    redis_server: Redis,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[LeanClient]:
    """A client whose queue a worker of the Celery under test reads; in the end its log must be clean."""
    folder = tmp_path_factory.mktemp("lean")
    queue = f"lean-{uuid.uuid4().hex[:12]}"
    broker = rabbitmq.url if request.param == "amqp" else redis_server.url
    environment = {"INTEROP_BROKER": broker, "INTEROP_BACKEND": redis_server.url, "INTEROP_QUEUE": queue}
    log = folder / "worker.log"
    lean = LeanClient(broker, redis_server.url, queue)
    before_task_publish.connect(lean.make_lean)
    try:
        with celery_worker(celery_python, log, queue, environment):
            yield lean
            assert_clean(log.read_text(errors="replace"))
    finally:
        before_task_publish.disconnect(lean.make_lean)
        with lean.app.connection() as connection:
            connection.default_channel.queue_delete(queue)
        lean.app.close()


def assert_clean(log: str) -> None:
    """No complaint but those about tasks that fail on purpose."""
    lines = [line for line in log.splitlines() if re.search(r"/(ERROR|CRITICAL)\]|: (ERROR|CRITICAL)/", line)]
    assert not [line for line in lines if "lean.fail" not in line], log
    assert log.count("Traceback") == len(lines), log


def signature(client: LeanClient, name: str, *args: Any, **options: Any) -> Any:
    return client.app.signature(f"lean.{name}", args=args, **options)


def run(client: LeanClient, name: str, *args: Any, **options: Any) -> Any:
    return client.app.send_task(f"lean.{name}", args=args, **options).get(timeout=WAIT_S)


def test_task_and_id_are_enough(client: LeanClient) -> None:
    task_id = client.publish(encode_task_headers(TaskMessage("lean.add", "")), [2, 3])
    result = client.app.AsyncResult(task_id)
    assert result.get(timeout=WAIT_S) == 5
    meta = client.app.backend.get_task_meta(task_id)
    assert (meta["status"], meta["name"], meta["args"], meta["retries"]) == ("SUCCESS", "lean.add", [2, 3], 0)


def test_each_header_can_be_left_out_alone(client: LeanClient) -> None:
    full = encode_task_headers(TaskMessage("lean.add", "an-id"), lean=False)
    assert sorted(full) == sorted([*DISPENSABLE, "task", "id"])
    full["root_id"] = None
    ids = {}
    for name in DISPENSABLE:
        ids[name] = client.publish({key: value for key, value in full.items() if key != name}, [1, 1])
    assert {name: client.app.AsyncResult(ids[name]).get(timeout=WAIT_S) for name in ids} == dict.fromkeys(
        ids, 2
    )


def test_a_plain_send_task_goes_out_with_these_headers(client: LeanClient) -> None:
    assert run(client, "add", 1, 2) == 3
    assert set(client.sent[-1]) <= {"task", "id", "ignore_result"}  # 5.6 says false where 5.7 says nothing


def test_failures_are_stored_and_call_the_errback(client: LeanClient) -> None:
    errback = signature(client, "on_error").set(task_id=str(uuid.uuid4()))
    result = client.app.send_task("lean.fail", args=["a reason"], link_error=errback)
    with pytest.raises(ValueError, match="a reason"):
        result.get(timeout=WAIT_S)
    assert "ValueError: a reason" in result.traceback
    assert client.app.AsyncResult(errback.options["task_id"]).get(timeout=WAIT_S) == result.id


def test_retries_keep_id_root_and_headers(client: LeanClient) -> None:
    result = client.app.send_task("lean.flaky", args=[2], headers={"tenant": "acme"})
    retries, root, tenant = result.get(timeout=WAIT_S)
    assert (retries, root, tenant) == (2, result.id, "acme")  # the worker's own retry is a full message again


def test_links_and_chains_go_on(client: LeanClient) -> None:
    link = signature(client, "add", 10).set(task_id=str(uuid.uuid4()))
    assert run(client, "add", 1, 2, link=link) == 3
    assert client.app.AsyncResult(link.options["task_id"]).get(timeout=WAIT_S) == 13
    steps = chain(signature(client, "add", 1, 2), signature(client, "add", 3), signature(client, "add", 4))
    assert steps.apply_async().get(timeout=WAIT_S) == 10


def test_groups_and_chords_count_their_members(client: LeanClient) -> None:
    members = [signature(client, "add", number, number) for number in range(4)]
    assert group(members, app=client.app).apply_async().get(timeout=WAIT_S) == [0, 2, 4, 6]
    body = signature(client, "total")
    assert chord(members, body, app=client.app).apply_async().get(timeout=WAIT_S) == 12
    assert "group_index" in client.sent[-1]


def test_descendants_find_their_root_and_parent(client: LeanClient) -> None:
    result = client.app.send_task("lean.family", args=[2])
    child = client.app.AsyncResult(result.get(timeout=WAIT_S))
    grandchild = client.app.AsyncResult(child.get(timeout=WAIT_S))
    assert grandchild.get(timeout=WAIT_S) == [[grandchild.id, result.id, child.id]]


def test_a_replaced_task_has_the_same_family_as_with_full_headers(client: LeanClient) -> None:
    families = []
    for lean in (True, False):
        headers = encode_task_headers(TaskMessage("lean.family", ""), lean=lean)
        if not lean:
            headers["root_id"] = headers["id"] = str(uuid.uuid4())
        task_id = client.publish(headers, [-1], headers["id"] or None)
        (family,) = client.app.AsyncResult(task_id).get(timeout=WAIT_S)
        families.append([name == task_id for name in family])
    assert families[0] == families[1]
    assert families[0][:2] == [True, True]  # its id and its root


def test_the_tasks_own_ignore_result_holds_when_the_header_is_left_out(client: LeanClient) -> None:
    with client.events() as events:
        silent = client.publish({"task": "lean.silent"}, [])
        wait_for(
            lambda: "task-succeeded" in events.of_task.get(silent, {}), WAIT_S, lambda: str(events.of_task)
        )
        overruled = client.publish({"task": "lean.silent", "ignore_result": False}, [])
        assert client.app.AsyncResult(overruled).get(timeout=WAIT_S) == "nobody asks"
    assert client.app.AsyncResult(silent).state == "PENDING"


def test_limits_stamps_and_group_arrive(client: LeanClient) -> None:
    sent = TaskMessage(
        "lean.limits",
        "",
        time_limit=20,
        soft_time_limit=10,
        stamped_headers=["tenant"],
        stamps={"tenant": "acme"},
    )
    got = client.app.AsyncResult(client.publish(encode_task_headers(sent), [])).get(timeout=WAIT_S)
    assert got == [[20, 10], {"tenant": "acme"}, None, None]


def test_monitors_see_the_task(client: LeanClient) -> None:
    with client.events() as events:
        task_id = client.publish({"task": "lean.add"}, [2, 2])
        wait_for(
            lambda: "task-succeeded" in events.of_task.get(task_id, {}), WAIT_S, lambda: str(events.of_task)
        )
    seen = events.of_task[task_id]
    assert set(seen) == {"task-received", "task-started", "task-succeeded"}
    task = events.state.tasks[task_id]
    assert (task.name, task.state, task.result, task.retries) == ("lean.add", "SUCCESS", "4", 0)
    # All that is missing: the texts that describe arguments, and the root, which is the task itself.
    received = seen["task-received"]
    assert (received["args"], received["kwargs"], received["root_id"], received["parent_id"]) == (
        "",
        "",
        None,
        None,
    )
    assert (received["eta"], received["expires"]) == (None, None)


def test_a_monitor_sees_what_the_sender_says(client: LeanClient) -> None:
    with client.events() as events:
        headers = {
            "task": "lean.add",
            "argsrepr": "(2, 2)",
            "kwargsrepr": "{}",
            "root_id": "a-root",
            "shadow": "alias",
        }
        task_id = client.publish(headers, [2, 2])
        wait_for(
            lambda: "task-succeeded" in events.of_task.get(task_id, {}), WAIT_S, lambda: str(events.of_task)
        )
    task = events.state.tasks[task_id]
    assert (task.args, task.kwargs, task.root_id, task.name) == ("(2, 2)", "{}", "a-root", "alias")
