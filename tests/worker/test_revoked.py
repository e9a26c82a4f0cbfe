"""Revoked ids in shared memory, and what control commands do with them, without a process."""

from __future__ import annotations

from typing import Any

from engine.worker.panel import METHODS, Node, call
from engine.worker.revoked import Revoked, RevokedIds, key_of
from engine.worker.scoreboard import DRAIN, GO_ON, RUNNING, Scoreboard


def test_readers_take_over_what_is_new() -> None:
    shared = Revoked(8)
    writer, reader = RevokedIds(shared), RevokedIds(shared)
    assert not reader.keys
    writer.add_new(["a", "b", "a"])
    assert "a" not in reader
    reader.refresh()
    assert list(reader.keys) == ["a", "b"]
    writer.add_new(["b", "c"])
    assert shared.total == 3, "what is known is not added again"
    reader.refresh()
    assert "c" in reader


def test_the_oldest_are_forgotten() -> None:
    shared = Revoked(3)
    writer, early, late = RevokedIds(shared), RevokedIds(shared), RevokedIds(shared)
    for number in range(10):
        writer.add_new([str(number)])
        early.refresh()
    late.refresh()
    assert list(writer.keys) == list(early.keys) == list(late.keys) == ["7", "8", "9"]
    writer.add_new(["7", "10"])
    assert list(writer.keys) == ["8", "9", "10"]


def test_ids_of_any_length_and_alphabet() -> None:
    shared = Revoked(8)
    odd = ["x" * 48, "x" * 49, "x" * 500, "ü", "ü" * 48, "with\0null", "\ud800"]
    RevokedIds(shared).add_new(odd)
    reader = RevokedIds(shared)
    reader.refresh()
    assert all(task_id in reader for task_id in odd)
    assert "x" * 50 not in reader
    assert len({key_of(task_id) for task_id in odd}) == len(odd)


def test_news_leave_the_command_alone() -> None:
    slot = Scoreboard(2).slot(1)
    assert (slot.word, slot.command) == (0, GO_ON)
    slot.announce_news()
    first = slot.word
    assert first != 0
    assert slot.command == GO_ON
    slot.command = DRAIN
    slot.announce_news()
    assert slot.command == DRAIN
    assert slot.word not in (first, 0)
    slot.clear()
    assert slot.word == 0


class Supervisor:
    """What a control child sees of it."""

    def __init__(self) -> None:
        self.board = Scoreboard(2)
        self.ids = RevokedIds(self.board.revoked)
        self.told: list[dict[str, Any]] = []
        self.node = Node("w@h", self.board, RevokedIds(self.board.revoked), self.tell)

    def tell(self, message: dict[str, Any]) -> None:
        self.told.append(message)
        self.ids.add_new(message["ids"])


def test_revoke_tells_the_supervisor_in_parts() -> None:
    supervisor = Supervisor()
    ids = [f"{number:036d}" for number in range(2000)]
    assert "flagged as revoked" in call(supervisor.node, "revoke", {"task_id": ids})["ok"]
    assert [one for message in supervisor.told for one in message["ids"]] == ids
    assert len(supervisor.told) > 1
    assert {message["signum"] for message in supervisor.told} == {None}


def test_terminate_says_what_runs_here() -> None:
    supervisor = Supervisor()
    supervisor.board.slot(0).record().begin("runs", "name", 1.0, 0.0, RUNNING)
    answer = call(supervisor.node, "terminate", {"task_id": ["runs", "waits"], "signal": "KILL", "new": 1})
    assert answer == {"ok": "terminate: runs"}
    assert supervisor.told == [{"op": "revoke", "ids": ["runs", "waits"], "signum": 9}]


def test_what_cannot_be_carried_out_is_an_error() -> None:
    node = Supervisor().node
    assert call(node, "nothing", {}) == {"error": "No such control command: nothing"}
    assert "not a task id" in call(node, "revoke", {"task_id": [1]})["error"]
    assert "not a task id" in call(node, "revoke", {"task_id": "x" * 2000})["error"]
    assert "no signal" in call(node, "revoke", {"task_id": "a", "terminate": True, "signal": "X"})["error"]
    assert "does not end" in call(node, "terminate", {"task_id": "a", "signal": "SIGCONT"})["error"]
    assert "not iterable" in call(node, "revoke", {"task_id": 1})["error"]


def test_hello_merges_and_tells() -> None:
    supervisor = Supervisor()
    supervisor.ids.add_new(["ours"])
    assert call(supervisor.node, "hello", {"from_node": "w@h"}) is None
    for theirs in (["theirs"], {"theirs-too": 12.5}):
        call(supervisor.node, "hello", {"from_node": "other@h", "revoked": theirs})
    answer = call(supervisor.node, "hello", {"from_node": "other@h", "revoked": None})
    assert answer["revoked"] == ["ours", "theirs", "theirs-too"]
    assert set(METHODS) >= {"ping", "revoke", "terminate", "hello"}
