"""What is SQLite's own; the contract is tested in tests/conformance."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from engine.codec import Message
from engine.errors import ConnectionLost, EncodeError, PublishRefused
from engine.model import BindingSpec, ExchangeSpec, QueueSpec
from engine.results import sqlite_waiting
from engine.transport.sqlite_claims import MOST_AT_ONCE, MOST_MERGED
from engine.transport.sqlite_schema import DELAYED, READY, claim_statement
from tests.transport.sqlite_support import in_child, opened, publish, wait_until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "engine.db"


def test_it_survives_everybody_leaving(path: Path) -> None:
    with opened(path) as transport:
        transport.declare(QueueSpec("q", arguments={"x-message-ttl": 600_000}))
        publish(transport, "q", b"a", b"b")
    with opened(path) as transport:
        transport.consume(["q"], 2)
        assert [delivery.body for delivery in transport.receive(1)] == [b"a", b"b"]


def test_requeued_keeps_its_place_and_its_count(path: Path) -> None:
    with opened(path) as transport:
        transport.declare(QueueSpec("q"))
        publish(transport, "q", b"a", b"b", b"c")
        transport.consume(["q"], 2)
        for count in range(4):
            taken = transport.receive(1)
            assert [(one.body, one.delivery_count) for one in taken] == [(b"a", count), (b"b", count)]
            transport.nack(taken, requeue=True)


def test_the_most_urgent_of_several_queues_comes_first(path: Path) -> None:
    with opened(path) as transport:
        for name in ("q1", "q2", "q3"):
            transport.declare(QueueSpec(name))
        order = [("q1", 0), ("q2", 5), ("q3", 9), ("q1", 5), ("q2", 0), ("q3", 5), ("q1", 200), ("q2", None)]
        messages = [
            Message(b"%d" % at, routing_key=name, priority=urgency)
            for at, (name, urgency) in enumerate(order)
        ]
        assert transport.publish(messages) == [None] * len(order)
        transport.consume(["q1", "q2", "q3"], 3)
        taken: list[bytes] = []
        while some := transport.receive(0):
            taken += [delivery.body for delivery in some]
            transport.ack(some)
        assert taken == [b"2", b"6", b"1", b"3", b"5", b"0", b"4", b"7"]


def test_of_very_many_queues_each_has_its_turn(path: Path) -> None:
    names = [f"q{number}" for number in range(3 * MOST_MERGED)]
    with opened(path) as transport:
        for name in names:
            transport.declare(QueueSpec(name))
        for number in range(4):
            publish(transport, names[0], b"one more %d" % number)
            for name in names:
                publish(transport, name, name.encode())
        transport.consume(names, 1)
        firsts: list[str] = []
        taken = 0
        while some := transport.receive(0):
            transport.ack(some)
            taken += 1
            if some[0].queue not in firsts[-MOST_MERGED:]:
                firsts.append(some[0].queue)
        assert taken == 4 * len(names) + 4
        assert {names.index(name) // MOST_MERGED for name in firsts[:3]} == {0, 1, 2}


def test_neither_a_deep_queue_nor_many_are_sorted(path: Path) -> None:
    with opened(path) as transport:
        transport.declare(QueueSpec("q"))
        connection = transport.shared_connection.connection
        for queues in (1, 3):
            parameters = (READY + 100, 10, *range(1, queues + 1))
            explained = connection.execute(f"EXPLAIN QUERY PLAN {claim_statement(queues)}", parameters)
            plan = " | ".join(row[3] for row in explained)
            assert "USING COVERING INDEX messages_by_place (owner=? AND queue=?)" in plan
            assert "SCAN messages" not in plan
            assert "TEMP B-TREE" not in plan


def test_one_claim_is_bounded(path: Path) -> None:
    with opened(path) as transport:
        transport.declare(QueueSpec("q"))
        publish(transport, "q", *(b"x" for _ in range(MOST_AT_ONCE + 10)))
        transport.consume(["q"], 0)
        assert len(transport.receive(1)) == MOST_AT_ONCE
        assert len(transport.receive(1)) == 10


def test_an_ack_of_somebody_else_s_message_does_nothing(path: Path) -> None:
    with opened(path) as first, opened(path) as second:
        first.declare(QueueSpec("q"))
        publish(first, "q", b"x")
        first.consume(["q"], 1)
        [held] = first.receive(1)
        second.consume(["q"], 1)
        second.ack([held])
        assert held.epoch == second.epoch, "told apart by the owner, not by the epoch"
        assert first.queue_state("q").unacked == 1
        first.ack([held])
        assert first.queue_state("q").unacked == 0


def test_held_while_its_queue_is_deleted_and_made_again(path: Path) -> None:
    with opened(path) as holder, opened(path) as other:
        holder.declare(QueueSpec("q"))
        publish(holder, "q", b"old", b"old too")
        holder.consume(["q"], 1)
        [held] = holder.receive(1)
        assert other.delete_queue("q") == 1
        other.declare(QueueSpec("q"))
        publish(other, "q", b"new")
        holder.nack([held], requeue=True)
        assert other.queue_state("q").ready == 1
        wait_until(lambda: [one.body for one in holder.receive(0.2)] == [b"new"], "the new queue to be found")
        assert other.shared_connection.connection.execute("SELECT count(*) FROM messages").get == 1


def test_another_process_s_topology_is_seen_at_once(path: Path) -> None:
    with opened(path) as first, opened(path) as second:
        assert second.publish([Message(b"x", routing_key="q")])[0] is not None
        first.declare(QueueSpec("q"))
        assert second.publish([Message(b"x", routing_key="q")]) == [None]
        first.delete_queue("q")
        assert second.publish([Message(b"x", routing_key="q")])[0] is not None


def test_a_topology_that_changes_while_it_is_read(path: Path) -> None:
    """Between two statements of a reader that is in no transaction of its own."""
    late = QueueSpec("late", bindings=(BindingSpec(ExchangeSpec("x", "direct"), "key"),))
    with opened(path) as reading, opened(path) as changing:
        changing.declare(QueueSpec("q"))
        connection = reading.shared_connection.connection
        asked: list[str] = []

        def change_meanwhile(_cursor: object, statement: str, _bindings: object) -> bool:
            asked.append(statement)
            if "FROM exchanges" in statement and sum("FROM exchanges" in one for one in asked) == 1:
                changing.declare(late)
            return True

        connection.exec_trace = change_meanwhile
        reading.recover()
        connection.exec_trace = None
        assert any("FROM exchanges" in statement for statement in asked)
        assert reading.publish([Message(b"x", exchange="x", routing_key="key")]) == [None]
        assert reading.queue_state("late").ready == 1


def test_headers_that_cannot_be_stored_are_refused_alone(path: Path) -> None:
    with opened(path) as transport:
        transport.declare(QueueSpec("q"))
        bad = Message(b"x", routing_key="q", headers={"object": object()})
        outcomes = transport.publish([bad, Message(b"y", routing_key="q")])
        assert isinstance(outcomes[0], EncodeError)
        assert outcomes[1] is None


@pytest.mark.parametrize("how", ["rejected", "expired"])
def test_dead_letters(path: Path, how: str) -> None:
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    with opened(path) as transport:
        transport.declare(QueueSpec("dead"))
        transport.declare(QueueSpec("q", arguments=arguments))
        expiration_ms = 0 if how == "expired" else None
        message = Message(b"x", routing_key="q", headers={"own": 1}, expiration_ms=expiration_ms)
        assert transport.publish([message]) == [None]
        transport.consume(["q"], 1)
        transport.nack(transport.receive(0), requeue=False)
        transport.recover()
        assert transport.queue_state("q").ready == 0
        transport.consume(["dead"], 1)
        [letter] = transport.receive(1)
        assert letter.body == b"x"
        assert letter.headers["own"] == 1
        assert letter.headers["x-first-death-queue"] == "q"
        assert letter.headers["x-first-death-reason"] == how
        assert "expiration" not in letter.properties


def test_a_delayed_message_expires_from_when_it_is_due(path: Path) -> None:
    with opened(path) as transport:
        transport.declare(QueueSpec("q"))
        due_at = time.time() + 0.5
        transport.publish([Message(b"x", routing_key="q", due_at=due_at, expiration_ms=20_000)])
        assert transport.queue_state("q").delayed == 1
        transport.consume(["q"], 1)
        [delivery] = transport.receive(5)
        assert due_at <= time.time() < due_at + 1
        assert delivery.body == b"x"


@pytest.mark.alone
def test_a_due_time_is_told_to_a_consumer_that_already_waits(path: Path) -> None:
    with opened(path) as waiting, opened(path) as publisher:
        publisher.declare(QueueSpec("q"))
        late_s: list[float] = []
        waiting.consume(["q"], 1)
        for _ in range(5):
            due_at = time.time() + 0.2
            publisher.publish([Message(b"x", routing_key="q", due_at=due_at)])
            [delivery] = waiting.receive(5)
            late_s.append(time.time() - due_at)
            waiting.ack([delivery])
        assert min(late_s) >= 0
        assert sorted(late_s)[2] < 0.1


def test_the_oldest_age(path: Path) -> None:
    with opened(path) as transport:
        transport.declare(QueueSpec("q"))
        assert transport.queue_state("q").oldest_age_s is None
        publish(transport, "q", b"x")
        transport.publish([Message(b"y", routing_key="q", priority=9)])
        wait_until(lambda: (transport.queue_state("q").oldest_age_s or 0) > 0.05, "it to age")


def test_a_table_locked_by_a_stranger_is_refused_with_a_word(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import apsw

    monkeypatch.setattr("engine.transport.sqlite_database.BUSY_TIMEOUT_MS", 50)
    with opened(path) as transport:
        transport.declare(QueueSpec("q"))
        stranger = apsw.Connection(str(path))
        stranger.execute("BEGIN IMMEDIATE")
        [outcome] = transport.publish([Message(b"x", routing_key="q")])
        assert isinstance(outcome, PublishRefused)
        assert "locked" in str(outcome)
        with pytest.raises(ConnectionLost, match="locked"):
            transport.purge("q")
        stranger.execute("ROLLBACK")
        stranger.close()
        publish(transport, "q", b"x")


def test_a_transaction_is_whole(path: Path) -> None:
    with opened(path) as transport, opened(path) as watcher:
        transport.declare(QueueSpec("q"))
        publish(transport, "q", b"a", b"b")
        transport.consume(["q"], 2)
        first, second = transport.receive(1)
        with transport.transaction():
            transport.ack([first])
            transport.nack([second], requeue=True)
            assert watcher.queue_state("q").unacked == 2
        assert (watcher.queue_state("q").unacked, watcher.queue_state("q").ready) == (0, 1)


def test_indices_hold_what_they_say(path: Path) -> None:
    """All three places of a message sort as their statements expect."""
    assert READY < DELAYED
    with opened(path) as transport:
        transport.declare(QueueSpec("q"))
        publish(transport, "q", b"ready", b"held")
        transport.publish([Message(b"delayed", routing_key="q", due_at=time.time() + 100)])
        transport.consume(["q"], 1)
        assert len(transport.receive(1)) == 1
        state = transport.queue_state("q")
        assert (state.ready, state.unacked, state.delayed) == (1, 1, 1)
        assert transport.purge("q") == 1
        assert transport.delete_queue("q") == 1


@pytest.mark.chaos
def test_killed_again_and_again_nothing_is_lost(path: Path) -> None:
    """Three consumers, killed at random moments; each message is finished, and the file is whole."""
    seeded = random.Random(7)
    ledger = path.parent / "ledger"
    total = 400

    def consume() -> None:
        with opened(path) as own, ledger.open("ab", buffering=0) as done:
            own.consume(["q"], 5)
            while True:
                for delivery in own.receive(1):
                    done.write(delivery.body + b"\n")
                    own.ack([delivery])

    with opened(path) as transport:
        transport.declare(QueueSpec("q"))
        publish(transport, "q", *(b"%d" % number for number in range(total)))
        pids = [in_child(consume) for _ in range(3)]
        kills = 0
        deadline_mono_s = time.monotonic() + 60
        while transport.queue_state("q").ready or transport.queue_state("q").unacked:
            assert time.monotonic() < deadline_mono_s
            time.sleep(seeded.uniform(0.0, 0.03))
            victim = seeded.randrange(3)
            os.kill(pids[victim], signal.SIGKILL)
            os.waitpid(pids[victim], 0)
            pids[victim] = in_child(consume)
            kills += 1
            transport.recover()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        finished = ledger.read_bytes().split()
        assert set(finished) == {b"%d" % number for number in range(total)}
        assert len(finished) - total <= kills * 5, "no more twice than were held at a kill"
        assert transport.shared_connection.connection.pragma("integrity_check") == "ok"


def test_the_docs_name_every_companion_of_the_file(path: Path) -> None:
    docs = Path(__file__).parents[2].joinpath("docs", "brokers.md").read_text()
    with opened(path) as transport, sqlite_waiting.Waiting(sqlite_waiting.waiting_folder(path)) as waiting:
        transport.declare(QueueSpec("q"))
        publish(transport, "q", b"a")
        waiting.add("t")
        transport.consume(["q"], 1)
        assert transport.receive(0.1)
        found = sorted(entry.name.removeprefix(path.name) for entry in path.parent.iterdir())
    assert "-bell" in found
    assert "-waiting" in found
    assert [suffix for suffix in found if suffix and f"`{suffix}`" not in docs] == []
