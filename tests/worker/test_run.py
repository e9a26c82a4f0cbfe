"""A worker runs tasks of every kind and tells their results, on every broker."""

from __future__ import annotations

import signal
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from engine.canvas import chain, group
from engine.codec import Message, TaskMessage, encode_task_body, encode_task_headers
from engine.errors import EncodeError, NotRegistered, SoftTimeLimitExceeded, TaskRevoked
from tests.worker.conftest import Place, chain_of
from tests.worker.harness import wait_for
from tools.brokers import RabbitMQ

SAMPLE = "tests.worker.sample_app"
NAMES = (("fail", "told"), ("step", 1))


def test_results_of_every_kind(place: Place) -> None:
    with place.worker() as worker:
        sums = [place.send("add", number, number) for number in range(30)]
        later = place.send("later", 21)
        failed = place.send("fail", "boom")
        left = place.send("leave")
        again = place.send("again", 2)
        who = place.send("whoami")
        ignored = place.send("ignore")
        assert [result.get(timeout=20) for result in sums] == [2 * number for number in range(30)]
        assert later.get(timeout=20) == 42
        with pytest.raises(ValueError, match="boom"):
            failed.get(timeout=20)
        with pytest.raises(BaseException, match="3"):
            left.get(timeout=20)
        assert again.get(timeout=20) == 2
        assert place.ledger.count("try") == 3
        told = who.get(timeout=20)
        assert told["id"] == who.id
        assert told["queue"] == place.queue
        assert told["stdin"] == ""
        assert "@" in told["hostname"]
        assert worker.stop() == 0
        assert ignored.state == "PENDING"
    log = worker.log()
    assert "Task tests.worker.sample_app.add[" in log
    assert "ValueError('boom')" in log
    assert place.ready() == 0


def test_countdown_is_kept_and_held_by_nobody(place: Place) -> None:
    with place.worker(concurrency=1):
        due = datetime.now(timezone.utc) + timedelta(seconds=1.2)
        later = place.send("work", "later", eta=due)
        place.send("work", "now")
        wait_for(lambda: place.ledger.finished()["now"], what="the task that is due")
        assert not place.ledger.finished()["later"]
        later.get(timeout=20)
        assert datetime.now(timezone.utc) >= due
        assert place.ledger.finished()["later"] == 1


def test_an_expired_task_is_revoked(place: Place) -> None:
    """The message has no time to live of its own: the worker has to notice."""
    moment = datetime.now(timezone.utc) - timedelta(seconds=5)
    task = TaskMessage(
        "tests.worker.sample_app.work", place.queue + "-id", ["expired"], expires=moment.isoformat()
    )
    message = Message(
        encode_task_body(task),
        headers=encode_task_headers(task),
        routing_key=place.queue,
        correlation_id=task.id,
    )
    with place.worker(concurrency=1):
        transport = place.app.open_transport()
        assert transport.publish([message]) == [None]
        transport.close()
        with pytest.raises(TaskRevoked):
            place.app.AsyncResult(task.id).get(timeout=20)
        fine = place.send("add", 1, 2, expires=datetime.now(timezone.utc) + timedelta(hours=1))
        assert fine.get(timeout=20) == 3
    assert place.ledger.count("start") == 0


def test_what_expired_while_it_waited_is_told(place: Place) -> None:
    late = [place.send("work", "late", expires=-1)]
    if not place.broker.startswith("amqp"):  # RabbitMQ drops by itself what expires in its queues
        late.append(place.send("work", "late", expires=0.05))
        time.sleep(0.1)
    with place.worker(concurrency=1) as worker:
        for result in late:
            with pytest.raises(TaskRevoked):
                result.get(timeout=20)
        assert worker.stop() == 0
    assert worker.log().count("has expired: not run") == len(late)
    assert place.ledger.count("start") == 0


def test_an_unknown_task_fails_and_is_kept_as_a_dead_letter(place: Place) -> None:
    with place.worker(concurrency=1) as worker:
        unknown = place.app.send_task("no.such.task\x1b[31m", (1,))
        with pytest.raises(NotRegistered):
            unknown.get(timeout=20)
        wait_for(lambda: place.ready(f"{place.queue}.dead") == 1, what="the dead letter")
        assert worker.stop() == 0
    assert "no.such.task\\x1b" in worker.log()
    transport = place.app.open_transport()
    dead = transport.get(f"{place.queue}.dead")
    assert dead is not None
    assert dead.headers["id"] == unknown.id
    assert dead.headers["x-engine-reason"] == "unknown task"
    assert dead.headers["x-engine-queue"] == place.queue
    transport.ack([dead])
    transport.close()


def test_a_task_that_becomes_known_in_time_is_run(place: Place) -> None:
    """A rolling deploy: the old worker puts the task off, a new one runs it."""
    place.environ["SAMPLE_GRACE"] = "60"
    with place.worker(concurrency=1) as worker:
        place.app.send_task("not.yet", ())
        wait_for(lambda: "is put off" in worker.log(), what="the log line")
        place.send("add", 1, 1).get(timeout=20)
        assert worker.stop() == 0
    assert place.ready(place.queue) <= 1


def test_garbage_becomes_a_dead_letter_and_the_worker_lives(place: Place) -> None:
    headers = {"task": "tests.worker.sample_app.add", "id": "garbage-1", "lang": "py"}
    bad = [
        Message(b"{not json", headers=dict(headers), routing_key=place.queue),
        Message(b"\x80\x04.", content_type="application/x-python-serialize", headers=dict(headers)),
        Message(b"\xff\xfe", content_type="text/unknown", headers=None),
    ]
    with place.worker(concurrency=1) as worker:
        transport = place.app.open_transport()
        for message in bad:
            message.routing_key = place.queue
        assert transport.publish(bad) == [None, None, None]
        transport.close()
        wait_for(lambda: place.ready(f"{place.queue}.dead") == 3, what="three dead letters")
        assert place.send("add", 2, 2).get(timeout=20) == 4
        assert worker.stop() == 0
    assert place.ready() == 0
    assert (
        f"goes to {place.queue}.dead: task tests.worker.sample_app.add[garbage-1]: unreadable" in worker.log()
    )
    assert f"goes to {place.queue}.dead: content type not accepted" in worker.log()


def test_rejected_without_requeue_is_run_once(place: Place) -> None:
    with place.worker(concurrency=1) as worker:
        place.send("reject")
        assert place.send("add", 2, 2).get(timeout=20) == 4
        assert worker.stop() == 0
    assert place.ledger.count("start", "reject") == 1
    assert place.ready() == 0


def test_a_result_that_cannot_be_written_is_a_failure(place: Place) -> None:
    """Its neighbours in the same batch are stored all the same."""
    with place.worker(concurrency=1) as worker:
        before, bad, after = place.send("add", 1, 1), place.send("unwritable"), place.send("add", 2, 2)
        with pytest.raises(EncodeError):
            bad.get(timeout=20)
        assert (before.get(timeout=20), after.get(timeout=20)) == (2, 4)
        assert worker.stop() == 0
    assert worker.log().count("its result cannot be written") == 1
    assert f"unwritable[{bad.id}] ran, but its result cannot be written" in worker.log()
    assert place.ready() == 0


def test_started_is_told_while_it_runs(place: Place) -> None:
    with place.worker(concurrency=1):
        result = place.send("told", 1.5)
        meta = wait_for(lambda: result.state == "STARTED" and result.info, what="STARTED")
        assert set(meta) == {"pid", "hostname"}
        assert result.get(timeout=20) == "done"


def test_a_fork_that_comes_back_out_of_its_task_touches_nothing(place: Place) -> None:
    with place.worker(concurrency=1) as worker:
        results = {how: place.send("forks", how) for how in ("exit", "raise", "interrupt", "return")}
        told = {how: result.get(timeout=20) for how, result in results.items()}
        assert told == {"exit": [7], "raise": [1], "interrupt": [1], "return": [0]}
        assert place.send("add", 2, 2).get(timeout=20) == 4
        assert worker.stop() == 0
    assert worker.log().count("succeeded in") == 5
    assert "ValueError: in the fork" in worker.log()
    assert "lost the connection" not in worker.log()
    assert place.ready() == 0


def test_a_chain_and_its_callbacks_go_on(place: Place) -> None:
    with place.worker() as worker:
        last = chain_of(place, [("add", (1, 2)), ("step", (4,)), ("step", (5,))])
        assert last.get(timeout=20) == 345
        assert worker.stop() == 0
    assert place.ready() == 0


def test_a_chain_that_fails_is_told_to_whoever_waits_for_its_end(place: Place) -> None:
    fail, step = (place.app.signature(f"{SAMPLE}.{name}", (word,)) for name, word in NAMES)
    waits = chain(fail, step, app=place.app).delay()
    groups = chain(fail, step, group(step, chain(step, step, app=place.app)), app=place.app).delay()
    with place.worker():
        for waited in (waits, *groups.results):
            with pytest.raises(ValueError, match="told"):
                waited.get(timeout=20)
        by_id = place.app.AsyncResult(waits.id)  # knows of no parents
        assert by_id.get(timeout=20, propagate=False).args == ("told",)


@pytest.mark.amqp
def test_a_chain_over_rpc_ends_where_its_caller_waits(
    rabbitmq: RabbitMQ, unique: str, tmp_path: Path
) -> None:
    place = Place(rabbitmq.url, "rpc://", unique, tmp_path)
    fail, step = (place.app.signature(f"{SAMPLE}.{name}", (word,)) for name, word in NAMES)
    with place.worker():
        last = chain_of(place, [("add", (1, 2)), ("step", (4,)), ("step", (5,))])
        assert last.get(timeout=20) == 345
        with pytest.raises(ValueError, match="told"):
            chain(fail, step, step, app=place.app).delay().get(timeout=20)
    place.close()


def test_a_failure_that_is_not_acknowledged_is_rejected_once(place: Place) -> None:
    with place.worker(concurrency=1) as worker:
        result = place.send("strict", "s")
        with pytest.raises(ValueError, match="s"):
            result.get(timeout=20)
        place.send("add", 2, 2).get(timeout=20)
        assert worker.stop() == 0
    assert place.ledger.count("start", "s") == 1
    assert place.ready() == 0


def test_soft_time_limit(place: Place) -> None:
    with place.worker(concurrency=1):
        caught, uncaught = place.send("soft"), place.send("soft_uncaught")
        assert caught.get(timeout=20) == "caught"
        with pytest.raises(SoftTimeLimitExceeded):
            uncaught.get(timeout=20)
        assert place.send("add", 2, 2).get(timeout=20) == 4


def test_signals_of_tasks(sqlite_place: Place) -> None:
    with sqlite_place.worker(concurrency=1):
        good, bad = sqlite_place.send("watched", False), sqlite_place.send("watched", True)
        assert good.get(timeout=20) == 1
        with pytest.raises(ValueError, match="watched"):
            bad.get(timeout=20)
    seen = sqlite_place.ledger.count
    assert seen("signal", "task_prerun", good.id) == seen("signal", "task_postrun", good.id, "SUCCESS") == 1
    assert seen("signal", "task_prerun", bad.id) == 2
    assert (
        seen("signal", "task_postrun", bad.id, "RETRY")
        == seen("signal", "task_postrun", bad.id, "FAILURE")
        == 1
    )
    assert (
        seen("signal", "task_success") == seen("signal", "task_failure") == seen("signal", "task_retry") == 1
    )


def test_signals_of_the_app_come_once_where_they_belong(sqlite_place: Place) -> None:
    with sqlite_place.worker(concurrency=2) as worker:
        wait_for(lambda: sqlite_place.ledger.count("signal", "worker_ready") == 1, what="worker_ready")
        assert worker.stop(signal.SIGINT) == 0
    ledger = sqlite_place.ledger
    assert ledger.count("signal", "worker_init") == 1
    assert ledger.count("signal", "worker_shutdown") == 1
    pids = {line[2] for line in ledger.lines() if line[1] == "worker_process_init"}
    assert len(pids) == 2
    assert str(worker.pid) not in {line[2] for line in ledger.lines()}, "the supervisor runs no user code"


def test_a_worker_reads_the_queue_of_its_own_name(place: Place) -> None:
    """As Celery's clients address it: by exchange and routing key, or by the queue's name."""
    place.environ["ENGINE_WORKER_DIRECT"] = "true"
    own = f"{place.queue}@here"
    with place.worker(concurrency=1, hostname=own) as worker:
        assert f"queues   {place.queue}, {own}.dq2" in worker.log()
        assert place.send("add", 1, 2, exchange="C.dq2", routing_key=own).get(timeout=20) == 3
        assert place.send("whoami", queue=f"{own}.dq2").get(timeout=20)["queue"] == f"{own}.dq2"
        assert place.send("whoami").get(timeout=20)["queue"] == place.queue
    transport = place.app.open_transport()
    transport.delete_queue(f"{own}.dq2")
    transport.close()


def test_json_is_refused_where_it_is_not_accepted(sqlite_place: Place) -> None:
    sqlite_place.environ["ENGINE_ACCEPT_CONTENT"] = "pickle"
    with sqlite_place.worker(concurrency=1) as worker:
        sqlite_place.send("work", "json")
        wait_for(lambda: sqlite_place.ready(f"{sqlite_place.queue}.dead") == 1, what="the dead letter")
        sqlite_place.send("work", "pickled", serializer="pickle")
        wait_for(lambda: sqlite_place.ledger.finished()["pickled"], what="the task that is accepted")
    assert "content type not accepted: the body is json" in worker.log()
    assert not sqlite_place.ledger.finished()["json"]


def test_a_call_overrules_the_tasks_ignore_result(place: Place) -> None:
    with place.worker(concurrency=1) as worker:
        asked = place.send("silent", 1, ignore_result=False)
        assert asked.get(timeout=20) == 1
        told = place.send("told", 0.1, ignore_result=True)
        plain = place.send("silent", 2)
        wait_for(lambda: place.ledger.finished()["2"], what="the last task")
        assert worker.stop() == 0
    store = place.app.results
    assert store.get(plain.id) is None, "its own word holds"
    assert store.get(told.id) is None, "not even that it started"
    store.close()
