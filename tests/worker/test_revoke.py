"""Revoked tasks: not started, or ended while they run; told to every child, and to those that come later."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import psutil
import pytest

from engine.errors import TaskRevoked
from tests.worker.conftest import Place
from tests.worker.harness import Worker, name_of, wait_for

REPLY_S = 10.0


def control_children(worker: Worker) -> list[psutil.Process]:
    return [process for process in worker.descendants_alive() if name_of(process) == "engine-control"]


def reachable(place: Place) -> Any:
    """Wait until the worker answers; its answer."""
    return wait_for(lambda: place.app.control.ping(timeout=REPLY_S, limit=1), what="an answer to ping")


def revoke(place: Place, *ids: str, **options: Any) -> Any:
    """Returns when the worker has said that it knows."""
    [reply] = place.app.control.revoke(list(ids), reply=True, timeout=REPLY_S, limit=1, **options)
    [answer] = reply.values()
    return answer


def test_a_worker_answers_ping(place: Place) -> None:
    with place.worker(hostname="worker-1@here") as worker:
        assert reachable(place) == [{"worker-1@here": {"ok": "pong"}}]
        control = place.app.control
        assert control.ping(destination=["other@here"], timeout=0.2) == []
        assert control.ping(destination=["worker-1@here"], timeout=REPLY_S) == [
            {"worker-1@here": {"ok": "pong"}}
        ]
        assert control.ping(pattern="other@*", matcher="glob", timeout=0.2) == []
        assert len(control.ping(pattern="worker-.@here", matcher="pcre", timeout=REPLY_S, limit=1)) == 1
        [[answer]] = [
            reply.values() for reply in control.broadcast("no_such", reply=True, timeout=REPLY_S, limit=1)
        ]
        assert answer == {"error": "No such control command: no_such"}
        assert worker.stop() == 0
        assert worker.descendants_alive() == []


def test_a_task_that_waits_is_not_started(place: Place) -> None:
    """It waits in the queue, or in the buffer of the child that runs another."""
    gate = place.gate()
    with place.worker(concurrency=1, prefetch=8) as worker:
        reachable(place)
        place.send("work", "long", str(gate))
        wait_for(lambda: place.ledger.count("start", "long"), what="the first to start")
        waiting = [place.send("work", f"waits-{number}") for number in range(3)]
        assert "flagged as revoked" in revoke(place, waiting[0].id, waiting[1].id)["ok"]
        gate.touch()
        for result in waiting[:2]:
            with pytest.raises(TaskRevoked, match="revoked"):
                result.get(timeout=30)
            assert result.state == "REVOKED"
        assert waiting[2].get(timeout=30) is None
        assert worker.stop() == 0
    assert place.ledger.count("start", "waits-0") == place.ledger.count("start", "waits-1") == 0
    assert place.ledger.finished() == {"long": 1, "waits-2": 1}
    assert place.ready() == 0


@pytest.mark.parametrize("signum", ["SIGTERM", "SIGKILL"])
def test_a_running_task_is_ended(place: Place, signum: str) -> None:
    gate = place.gate()
    with place.worker() as worker:
        reachable(place)
        running, other = place.send("work", "running", 60), place.send("work", "other", str(gate))
        wait_for(lambda: place.ledger.count("start") == 2, what="both to start")
        assert revoke(place, running.id, terminate=True, signal=signum) == {"ok": f"terminate: {running.id}"}
        with pytest.raises(TaskRevoked, match="terminated"):
            running.get(timeout=30)
        gate.touch()
        assert other.get(timeout=30) is None, "its sibling is left alone"
        assert place.send("add", 1, 1).get(timeout=20) == 2
        wait_for(lambda: len(worker.children()) == 2, what="two children")
        assert worker.stop() == 0
    assert place.ledger.count("start", "running") == 1, "it is not run again"
    assert place.ledger.finished() == {"other": 1}
    assert place.ready() == 0


def test_a_task_acknowledged_before_it_ran_is_ended_too(sqlite_place: Place) -> None:
    """Nobody delivers it again: another child stores how it ended, even if that has yet to be started."""
    with sqlite_place.worker(concurrency=1) as worker:
        reachable(sqlite_place)
        running = sqlite_place.send("early_sleep", "a")
        wait_for(lambda: sqlite_place.ledger.count("start"), what="the task to start")
        running.revoke(terminate=True)
        with pytest.raises(TaskRevoked, match="terminated"):
            running.get(timeout=30)
        assert worker.stop() == 0


def test_what_a_task_started_gets_the_signal(sqlite_place: Place) -> None:
    with sqlite_place.worker(concurrency=1) as worker:
        reachable(sqlite_place)
        running = sqlite_place.send("start_program", "program")
        wait_for(lambda: sqlite_place.ledger.count("program-runs"), what="the program to start")
        running.revoke(terminate=True, signal="SIGTERM")
        with pytest.raises(TaskRevoked, match="terminated"):
            running.get(timeout=30)
        wait_for(lambda: sqlite_place.ledger.count("program-ended"), what="the program's last words")
        assert worker.stop() == 0


def test_terminating_what_is_not_here(sqlite_place: Place) -> None:
    with sqlite_place.worker() as worker:
        reachable(sqlite_place)
        assert revoke(sqlite_place, "nobody", terminate=True) == {"ok": "terminate: tasks unknown"}
        result = sqlite_place.send("work", "later", task_id="nobody")
        with pytest.raises(TaskRevoked):
            result.get(timeout=20)
        assert worker.stop() == 0


def test_children_that_come_later_know(sqlite_place: Place) -> None:
    """A child that replaces another, and the children of new code."""
    place = sqlite_place
    with place.worker(concurrency=1) as worker:
        reachable(place)
        revoke(place, "first", "second", "ü" * 100)
        [child] = worker.children()
        os.kill(child.pid, signal.SIGKILL)
        wait_for(lambda: [one.pid for one in worker.children()] != [child.pid], what="another child")
        for task_id in ("first", "ü" * 100):
            with pytest.raises(TaskRevoked):
                place.send("work", 1, task_id=task_id).get(timeout=20)
        worker.send_signal(signal.SIGHUP)
        wait_for(lambda: "new code loaded" in worker.log(), what="new code")
        wait_for(lambda: len(worker.children()) == 1, what="the old child to go")
        with pytest.raises(TaskRevoked):
            place.send("work", 2, task_id="second").get(timeout=20)
        assert reachable(place), "the new control child answers"
        assert worker.stop() == 0
    assert place.ledger.count("start") == 0


def test_a_retry_of_a_revoked_task_is_not_run(sqlite_place: Place) -> None:
    with sqlite_place.worker(concurrency=1) as worker:
        reachable(sqlite_place)
        result = sqlite_place.send("again", 3)
        wait_for(lambda: sqlite_place.ledger.count("try", 0), what="the first try")
        result.revoke()
        with pytest.raises(TaskRevoked):
            result.get(timeout=20)
        assert worker.stop() == 0


def test_a_crashed_and_revoked_task_is_not_run_again(sqlite_place: Place) -> None:
    with sqlite_place.worker(concurrency=1) as worker:
        reachable(sqlite_place)
        running = sqlite_place.send("work", "a", 60)
        wait_for(lambda: sqlite_place.ledger.count("start"), what="the task to start")
        revoke(sqlite_place, running.id)
        os.kill(sqlite_place.ledger.pid_of("start", "a"), signal.SIGKILL)
        with pytest.raises(TaskRevoked, match="revoked"):
            running.get(timeout=20)
        assert worker.stop() == 0
    assert sqlite_place.ledger.count("start", "a") == 1


def test_the_signal_task_revoked_is_sent(sqlite_place: Place) -> None:
    with sqlite_place.worker(concurrency=2) as worker:
        reachable(sqlite_place)
        running = sqlite_place.send("work", "a", 60)
        wait_for(lambda: sqlite_place.ledger.count("start"), what="the task to start")
        revoke(sqlite_place, running.id, terminate=True, signal="SIGTERM")
        wait_for(
            lambda: sqlite_place.ledger.count("revoked", running.id, "True", int(signal.SIGTERM), "False"),
            what="the signal of the terminated task",
        )
        revoke(sqlite_place, "later")
        sqlite_place.send("work", "b", task_id="later")
        wait_for(
            lambda: sqlite_place.ledger.count("revoked", "later", "False", "None", "False"), what="the signal"
        )
        assert worker.stop() == 0


def test_a_group_is_revoked_as_one(sqlite_place: Place) -> None:
    place, gate = sqlite_place, sqlite_place.gate()
    with place.worker(concurrency=1, prefetch=1) as worker:
        reachable(place)
        place.send("work", "long", str(gate))
        wait_for(lambda: place.ledger.count("start", "long"), what="the first to start")
        members = [place.send("work", number) for number in range(5)]
        place.app.GroupResult("group", members).revoke(wait=True, timeout=1)
        reachable(place)  # it takes orders in their turn: by now it knows
        gate.touch()
        assert [member.get(timeout=20, propagate=False).args for member in members] == [("revoked",)] * 5
        assert worker.stop() == 0
    assert place.ledger.finished() == {"long": 1}


def test_revoked_ids_outlive_a_restart_in_a_file(sqlite_place: Place) -> None:
    place = sqlite_place
    place.environ["SAMPLE_STATE"] = str(place.folder / "state-%n")
    for task_id in ("first", "second"):
        with place.worker(hostname="keeper@here") as worker:
            reachable(place)
            revoke(place, task_id)
            assert worker.stop() == 0
    file = place.folder / "state-keeper"
    assert file.stat().st_mode & 0o777 == 0o600
    with place.worker(hostname="keeper@here") as worker:
        for task_id in ("first", "second"):
            with pytest.raises(TaskRevoked):
                place.send("work", 1, task_id=task_id).get(timeout=20)
        assert worker.stop() == 0


def test_a_worker_that_starts_asks_the_others(place: Place) -> None:
    def known_at(node: str) -> Any:
        hello = {"from_node": "asking@here"}
        replies = place.app.control.broadcast("hello", hello, [node], reply=True, timeout=1)
        return replies[0][node]["revoked"] if replies else []

    with place.worker(hostname="first@here") as first:
        reachable(place)
        revoke(place, "before")
        with place.worker(hostname="second@here") as second:
            wait_for(lambda: "before" in known_at("second@here"), what="the second to know")
            assert first.stop() == 0
            with pytest.raises(TaskRevoked):
                place.send("work", 1, task_id="before").get(timeout=20)
            assert second.stop() == 0


# -- the control child ---------------------------------------------------------------------------------


def test_its_death_does_not_disturb_the_work(place: Place) -> None:
    with place.worker() as worker:
        reachable(place)
        result = place.send("work", "long", 1)
        wait_for(lambda: place.ledger.count("start", "long"), what="the task to start")
        [first] = control_children(worker)
        first.kill()
        wait_for(
            lambda: [one.pid for one in control_children(worker)] not in ([], [first.pid]), what="another"
        )
        reachable(place)
        result.get(timeout=20)
        assert "the work goes on" in worker.log()
        assert len(worker.children()) == 2
        assert worker.stop() == 0
    assert place.ledger.finished() == {"long": 1}


def test_it_can_be_switched_off(sqlite_place: Place) -> None:
    sqlite_place.environ["SAMPLE_REMOTE"] = "0"
    with sqlite_place.worker() as worker:
        assert sqlite_place.send("add", 1, 2).get(timeout=20) == 3
        assert control_children(worker) == []
        assert sqlite_place.app.control.ping(timeout=0.2) == []
        assert worker.stop() == 0


def test_a_draining_worker_can_be_told_to_end_a_task(sqlite_place: Place) -> None:
    with sqlite_place.worker() as worker:
        reachable(sqlite_place)
        running = sqlite_place.send("work", "long", 60)
        wait_for(lambda: sqlite_place.ledger.count("start", "long"), what="the task to start")
        worker.send_signal(signal.SIGTERM)
        wait_for(lambda: "warm stop" in worker.log(), what="the warm stop")
        running.revoke(terminate=True, signal="SIGKILL")
        assert worker.wait(20) == 0
        assert worker.descendants_alive() == []


def test_two_workers_of_one_name_both_hear(place: Place) -> None:
    with place.worker(hostname="twin@here"):
        reachable(place)
        with place.worker(hostname="twin@here") as second:
            replies = wait_for(
                lambda: (found := place.app.control.ping(timeout=1, limit=2)) and len(found) == 2,
                what="two answers",
            )
            assert replies
            if not place.broker.startswith("redis"):  # it does not tell who reads a queue, and both may
                assert "another worker is named twin@here" in second.log()


@pytest.mark.amqp
def test_a_refused_queue_gives_one_warning(rabbitmq: Any, tmp_path: Any, unique: str) -> None:
    """Something of another type has the exchange's name."""
    from engine.model import ExchangeSpec

    place = Place(rabbitmq.url, f"sqlite:///{tmp_path}/results.db", unique, tmp_path)
    place.environ["SAMPLE_CONTROL"] = f"{unique}-refused"
    transport = place.app.open_transport()
    transport.declare_exchange(ExchangeSpec(f"{unique}-refused.pidbox", "direct"))
    with place.worker() as worker:
        wait_for(lambda: "no remote control" in worker.log(), what="the warning")
        assert place.send("add", 1, 2).get(timeout=20) == 3
        assert worker.stop() == 0
        assert worker.log().count("no remote control") == 1
    transport.close()
    place.close()


def test_it_costs_little(sqlite_place: Place) -> None:
    """It sleeps until something comes."""
    with sqlite_place.worker(concurrency=1) as worker:
        reachable(sqlite_place)
        [control] = control_children(worker)
        before = sum(control.cpu_times()[:2])
        time.sleep(2)  # the thing measured is what it does in a time
        assert sum(control.cpu_times()[:2]) - before <= 0.04


@pytest.mark.amqp
def test_it_answers_again_after_a_lost_connection(own_broker: Any, tmp_path: Any, unique: str) -> None:
    """Its queue went with the connection."""
    place = Place(own_broker.url, f"sqlite:///{tmp_path}/results.db", unique, tmp_path)
    with place.worker() as worker:
        reachable(place)
        [control] = control_children(worker)
        own_broker.ctl("close_all_connections", "the test says so")
        place.app.close()
        reachable(place)
        assert [one.pid for one in control_children(worker)] == [control.pid]
        revoke(place, "later")
        with pytest.raises(TaskRevoked):
            place.send("work", 1, task_id="later").get(timeout=20)
        assert worker.stop() == 0
    assert "remote control lost the broker" in worker.log()
    place.close()
