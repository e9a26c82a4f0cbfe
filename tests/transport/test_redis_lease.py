"""Leases on Redis: renewed while user code runs, lost by the dead, of no use to those who lost them."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from engine.errors import ConnectionFailed
from engine.transport import TransportOptions, redis_lease
from engine.transport.redis import RedisTransport
from engine.transport.redis_owner import host_id, is_dead, new_token
from tests.transport.redis_support import Desk, bodies, desk_at, put, take, wait_until
from tools.brokers import Redis

pytestmark = pytest.mark.redis


@pytest.fixture
def desk(redis_server: Redis, unique: str) -> Iterator[Desk]:
    with desk_at(redis_server.url, unique) as made:
        yield made


@dataclass(frozen=True)
class Way:
    """How the one whose lease is watched reaches the server."""

    url: str
    options: dict[str, Any]


@pytest.fixture(params=["redis", "rediss"])
def way(request: pytest.FixtureRequest, redis_server: Redis) -> Way:
    return Way(redis_server.url, {}) if request.param == "redis" else _tls(redis_server)


@pytest.fixture
def tls(redis_server: Redis) -> Way:
    return _tls(redis_server)


def _tls(server: Redis) -> Way:
    return Way(server.rediss_url, {"ssl": {"ca_certs": server.cafile}})


def _spawn(url: str, queue: str, work: str, **options: Any) -> subprocess.Popen[str]:
    """Another process that claims one message, says so, and then does ``work``."""
    source = f"""
        import ctypes, sys, time
        from engine.transport import TransportOptions
        from engine.transport.redis import RedisTransport
        transport = RedisTransport({url!r}, TransportOptions(**{options!r}))
        transport.connect()
        transport.consume([{queue!r}], 1)
        [delivery] = transport.receive(10)
        print("claimed", flush=True)
    """
    program = textwrap.dedent(source) + textwrap.dedent(work)
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)


def _claimed(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "claimed\n"


@pytest.mark.slow
def test_a_call_that_holds_the_gil_keeps_its_claim(desk: Desk, way: Way) -> None:
    """Three leases long in C, with no Python running: delivered once."""
    queue = desk.queue()
    watcher = desk.open()
    put(watcher, queue, "x")
    work = """
        transport.guard()
        ctypes.PyDLL(None).sleep(6)
        transport.unguard()
        transport.ack([delivery])
        assert transport.receive(0.1) == []
        transport.close()
    """
    with _spawn(way.url, queue, work, lease=2.0, **way.options) as process:
        _claimed(process)
        watcher.consume([queue], 1)
        while process.poll() is None:
            watcher.recover()
            assert watcher.receive(0.2) == []
        assert process.returncode == 0
    assert watcher.receive(0.2) == []
    assert watcher.queue_state(queue).ready == 0


def test_a_killed_process_of_this_host_gives_back_at_once(desk: Desk) -> None:
    queue = desk.queue()
    watcher = desk.open(lease=1000.0)
    put(watcher, queue, "x")
    with _spawn(desk.url, queue, "time.sleep(60)", lease=1000.0) as process:
        _claimed(process)
        watcher.consume([queue], 1)
        assert watcher.receive(1.2) == []
        process.send_signal(signal.SIGKILL)
        killed_mono_s = time.monotonic()
        [delivery] = take(watcher, 1)
    assert time.monotonic() - killed_mono_s < 4
    assert delivery.redelivered
    watcher.ack([delivery])


def test_a_process_that_is_new_looks_for_the_dead_at_once(desk: Desk) -> None:
    """Whoever else of the host has just looked."""
    queue = desk.queue()
    watcher = desk.open(lease=1000.0)
    put(watcher, queue, "x")
    with _spawn(desk.url, queue, "time.sleep(60)", lease=1000.0) as process:
        _claimed(process)
        wait_until(lambda: watcher.recover() == 0 and bool(desk.raw.keys("engine.looked.*")), "a look")
        process.kill()
        process.wait(10)
        assert desk.open(lease=1000.0).recover() == 1
    watcher.consume([queue], 1)
    [delivery] = take(watcher, 1)
    watcher.ack([delivery])


def test_an_owner_that_is_no_text_is_buried_like_any_other(desk: Desk) -> None:
    """Whoever wrote it there: no worker of the host ends over it."""
    host = f"engine.host.{host_id()}"
    transport = desk.open()
    dead, odd = b"\xff/999999999/1/x", b"\xff"
    desk.raw.sadd(host, dead, odd)
    try:
        transport.recover()
        assert desk.raw.smismember(host, [dead, odd]) == [0, 1]
    finally:
        desk.raw.srem(host, dead, odd)


def test_a_lease_that_ends_gives_back(desk: Desk) -> None:
    """Of a process that lives, so that nothing but the lease can tell."""
    queue = desk.queue()
    holder, watcher = desk.open(lease=1.0), desk.open()
    put(holder, queue, *"abc")
    holder.consume([queue], 3)
    assert len(take(holder, 3)) == 3
    claimed_mono_s = time.monotonic()
    watcher.consume([queue], 3)
    again = take(watcher, 3)
    assert 0.8 < time.monotonic() - claimed_mono_s < 4
    assert bodies(again) == ["a", "b", "c"]
    assert all(delivery.redelivered for delivery in again)
    watcher.ack(again)


def test_an_ack_after_the_lease_changes_nothing(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    queue = desk.queue()
    holder, watcher = desk.open(lease=0.5), desk.open()
    put(holder, queue, *"abc")
    holder.consume([queue], 3)
    old = take(holder, 3)
    watcher.consume([queue], 3)
    new = take(watcher, 3)
    assert {delivery.tag for delivery in new} == {delivery.tag for delivery in old}
    with caplog.at_level(logging.WARNING, logger="engine.transport.redis"):
        holder.ack(old[:1])
        holder.nack(old[1:2], requeue=True)
        holder.park(old[2], time.time() + 1000)
        holder.queue_state(queue)
    assert "not ours to settle any more" in caplog.text
    assert all(desk.raw.hexists("unacked", delivery.tag) for delivery in new)
    watcher.nack(new, requeue=True)
    assert watcher.queue_state(queue).ready == 3


def test_a_lost_lease_is_noticed_and_the_next_claims_are_good(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    queue = desk.queue()
    holder, watcher = desk.open(lease=0.6), desk.open()
    put(holder, queue, "a")
    holder.consume([queue], 5)
    holder.guard()
    holder.unguard()
    [old] = take(holder, 1)
    wait_until(lambda: watcher.recover() > 0 or watcher.queue_state(queue).ready == 1, "the lease to end")
    with caplog.at_level(logging.WARNING, logger="engine.transport.redis"):
        again = take(holder, 1)  # renews first, and learns that it is too late
        holder.receive(0.3)
    assert "lease" in caplog.text
    assert bodies(again) == ["a"]
    put(holder, queue, "b")
    [fresh] = take(holder, 1)
    holder.guard()  # it is an owner again
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        assert watcher.recover() == 0
        time.sleep(0.05)
    holder.unguard()
    holder.ack([old])  # the same message and owner as the second time: the work is done
    holder.ack([*again, fresh])
    holder.queue_state(queue)
    assert not desk.raw.hexists("unacked", old.tag)
    assert not desk.raw.hexists("unacked", fresh.tag)


def test_a_waiting_holder_renews(desk: Desk) -> None:
    """It holds one message and waits for more: its lease goes on."""
    queue = desk.queue()
    holder, watcher = desk.open(lease=1.0), desk.open()
    put(holder, queue, "a")
    holder.consume([queue], 2)
    held = take(holder, 1)
    watcher.consume([queue], 2)
    until = time.monotonic() + 2.5
    while time.monotonic() < until:
        assert holder.receive(0.3) == []
        assert watcher.receive(0.0) == []
        watcher.recover()
    holder.ack(held)


def test_replies_to_renewals_do_not_mix_with_others(desk: Desk, way: Way) -> None:
    queue = desk.queue()
    holder = desk.open(way.url, lease=0.3, **way.options)
    watcher = desk.open()
    put(holder, queue, "a", "b")
    holder.consume([queue], 1)
    [held] = take(holder, 1)
    watcher.consume([queue], 1)
    [other] = take(watcher, 1)
    for _ in range(3):
        holder.guard()
        _keeps_its_claims(watcher, 0.5)
        holder.unguard()
        assert holder.queue_state(queue).ready == 0
    holder.ack([held])
    watcher.ack([other])
    assert holder.receive(0.1) == []
    assert holder.queue_state(queue).ready == 0


def _keeps_its_claims(watcher: RedisTransport, seconds: float) -> None:
    """Of those that this watcher would get."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        watcher.recover()
        assert watcher.receive(0.05) == []


def test_guard_survives_a_fork(desk: Desk, way: Way) -> None:
    queue = desk.queue()
    holder = desk.open(way.url, lease=0.4, **way.options)
    put(holder, queue, "a")
    holder.consume([queue], 1)
    held = take(holder, 1)
    holder.guard()
    pid = os.fork()
    if pid == 0:
        holder.abandon()
        os._exit(0 if not holder.connected else 1)
    assert os.waitpid(pid, 0)[1] == 0
    time.sleep(0.8)
    holder.unguard()
    holder.ack(held)
    assert holder.queue_state(queue).ready == 0
    assert not desk.raw.hexists("unacked", held[0].tag)


# -- the connection that renews over TLS -------------------------------------------------------------------


def _lease_connection(desk: Desk) -> int:
    """Its id on the server, 0 when there is none. One a test: it is told by the client's name."""
    wanted = f"{desk.unique}-lease"
    return next((int(client["id"]) for client in desk.raw.client_list() if client["name"] == wanted), 0)


def _guarded(desk: Desk, tls: Way) -> tuple[RedisTransport, RedisTransport]:
    """One that holds a message under guard, and one that would get it."""
    queue = desk.queue()
    holder = desk.open(tls.url, lease=1.5, client_name=desk.unique, **tls.options)
    watcher = desk.open()
    put(holder, queue, "a")
    holder.consume([queue], 1)
    take(holder, 1)
    watcher.consume([queue], 1)
    holder.guard()
    return holder, watcher


def test_it_is_there_when_the_task_begins_and_gone_with_the_transport(desk: Desk, tls: Way) -> None:
    holder, _ = _guarded(desk, tls)
    assert _lease_connection(desk)
    holder.unguard()
    holder.close()
    wait_until(lambda: not _lease_connection(desk), "the server to see its end")


def test_a_broken_one_is_replaced(desk: Desk, tls: Way, caplog: pytest.LogCaptureFixture) -> None:
    holder, watcher = _guarded(desk, tls)
    first = _lease_connection(desk)
    with caplog.at_level(logging.INFO, logger="engine.transport.redis"):
        desk.raw.client_kill_filter(_id=first)
        wait_until(lambda: _lease_connection(desk) not in (0, first), "another connection")
    assert "replaced" in caplog.text
    _keeps_its_claims(watcher, 2.5)
    holder.unguard()


def test_a_half_spent_one_is_replaced(desk: Desk, tls: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a task that lets Python run may last longer than what was made ahead."""
    monkeypatch.setattr(redis_lease, "MOST_RECORDS", 2)
    holder, watcher = _guarded(desk, tls)
    first = _lease_connection(desk)
    wait_until(lambda: _lease_connection(desk) not in (0, first), "another connection")
    _keeps_its_claims(watcher, 2.5)
    holder.unguard()


def test_a_flush_of_the_scripts_changes_nothing(desk: Desk, tls: Way) -> None:
    holder, watcher = _guarded(desk, tls)
    desk.raw.script_flush()
    _keeps_its_claims(watcher, 2.5)
    holder.unguard()


def test_one_that_is_refused_is_told_and_tried_again(
    tmp_path: Path, unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = Redis(tmp_path / "own", {"maxclients": "1"})
    server.start()
    transport = RedisTransport(server.rediss_url, TransportOptions(lease=0.9, **_tls(server).options))
    try:
        wait_until(lambda: _connects(transport), "the starter's probe to leave its place")
        with caplog.at_level(logging.WARNING, logger="engine.transport.redis"):
            transport.guard()
            assert "run again elsewhere" in caplog.text
            assert "two connections" in caplog.text
        transport.unguard()
        session: Any = transport._session
        session.command("CONFIG", "SET", "maxclients", "2")
        wait_until(lambda: b"engine-lease" in session.command("CLIENT", "LIST"), "a lease connection")
    finally:
        transport.close()
        server.stop()


def _connects(transport: RedisTransport) -> bool:
    try:
        transport.connect()
    except ConnectionFailed:
        return False
    return True


# -- other ends --------------------------------------------------------------------------------------------


def test_reconnecting_takes_back_what_was_held(desk: Desk) -> None:
    """Also what the broken connection had claimed and never delivered."""
    queue = desk.queue()
    transport = desk.open(lease=1000.0)
    put(transport, queue, *"ab")
    transport.consume([queue], 2)
    token = transport._claims.token
    take(transport, 2)
    desk.raw.client_kill_filter(_id=_client_id(transport))
    with pytest.raises(Exception, match="lost the connection"):
        transport.receive(5)
    transport.reconnect()
    assert bodies(take(transport, 2)) == ["a", "b"]
    assert transport._claims.token != token


def _client_id(transport: Any) -> int:
    return int(transport._session.command("CLIENT", "ID"))


def test_who_is_dead() -> None:
    host = host_id()
    assert host
    assert not is_dead(new_token(host))
    with subprocess.Popen(["true"]) as process:
        pid = process.pid
        wait_until(lambda: _state(pid) == "Z", "a zombie")
        assert is_dead(f"{host}/{pid}/0/x")
    assert is_dead(f"{host}/{pid}/0/x")
    assert is_dead(f"{host}/{os.getpid()}/1/x"), "another process had that PID before"
    assert not is_dead("host/not-a-pid/1/x")


def _state(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0]


def test_a_refresh_loads_a_forgotten_script(desk: Desk) -> None:
    """The native renewals fail after SCRIPT FLUSH; whoever looks after the lease notices."""
    queue = desk.queue()
    holder = desk.open(lease=1.5)
    put(holder, queue, "a")
    holder.consume([queue], 1)
    [delivery] = take(holder, 1)
    holder.guard()
    desk.raw.script_flush()
    holder.refresh()
    wait_until_renewed = time.monotonic() + 3
    rival = desk.open(lease=1.5)
    rival.consume([queue], 1)
    while time.monotonic() < wait_until_renewed:
        rival.recover()
        assert rival.receive(0.1) == []
    holder.ack([delivery])
    assert holder.queue_state(queue).ready == 0


@pytest.mark.parametrize("guarded", [True, False])
def test_renewing_outlives_a_flush_of_the_scripts(desk: Desk, guarded: bool) -> None:
    queue = desk.queue()
    holder, watcher = desk.open(lease=1.0), desk.open()
    put(watcher, queue, "kept")
    holder.consume([queue], 10)
    [delivery] = take(holder, 1)
    desk.raw.script_flush()
    if guarded:
        holder.guard()
    deadline = time.monotonic() + 2.5
    while time.monotonic() < deadline:
        if not guarded:
            holder.receive(0.1)
        watcher.recover()
        assert watcher.queue_state(queue).ready == 0, "the lease goes on"
        time.sleep(0.05)
    if guarded:
        holder.unguard()
    holder.ack([delivery])
