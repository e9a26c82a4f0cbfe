"""What the SQLite transport costs, and how quickly it wakes.

Run with ``python -m pytest benchmarks/test_transport_sqlite.py -s``; it prints microseconds of CPU a message
(all processes together) and rates. The rates depend on the disk; the bounds asserted are several times what
was measured, so that only a change of kind breaks them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from benchmarks.ratio import Clients
from engine.codec import Message, encode_envelope
from engine.model import QueueSpec
from engine.transport.sqlite import SqliteTransport

TASK_ID = "d0c9a7f2-4c0c-4a6c-9b4e-0f8f0a1b2c3d"
HEADERS = {"lang": "py", "task": "proj.tasks.add", "id": TASK_ID, "retries": 0, "argsrepr": "(2, 2)"}
BODY = b'[[2, 2], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
QUEUE = "q"
ROUNDS = 4


def message(body: bytes = BODY) -> Message:
    return Message(body, headers=HEADERS, routing_key=QUEUE, correlation_id=TASK_ID, reply_to="r")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/broker.db"


@pytest.fixture
def transport(url: str) -> Iterator[SqliteTransport]:
    made = SqliteTransport(url)
    made.connect()
    made.declare(QueueSpec(QUEUE))
    yield made
    made.close()


def fill(transport: SqliteTransport, count: int) -> None:
    assert transport.publish([message()] * count, confirm=False) == [None] * count


class Raw:
    """What any client must do to the file, the message already encoded: apsw and two statements."""

    name = "apsw"

    def __init__(self, path: Path) -> None:
        self.connection = apsw.Connection(str(path))
        for statement in (
            "PRAGMA journal_mode = WAL",
            "CREATE TABLE messages(id INTEGER PRIMARY KEY, owner INT, queue INT, envelope BLOB, body BLOB)",
            "CREATE INDEX messages_by_owner ON messages(owner, queue, id)",
        ):
            self.connection.execute(statement).fetchall()
        self.envelope = encode_envelope(message(b""), TASK_ID)

    def publish(self, count: int, batch: int) -> None:
        self.connection.execute("PRAGMA synchronous = FULL")
        rows = [(self.envelope, BODY)] * batch
        for _ in range(count // batch):
            with self.connection:
                self.connection.executemany(
                    "INSERT INTO messages(owner, queue, envelope, body) VALUES(0, 1, ?, ?)", rows
                )

    def drain(self, count: int, batch: int) -> None:
        claim = (
            "UPDATE messages SET owner = 1 WHERE id IN (SELECT id FROM messages WHERE owner = 0 AND queue = 1"
            " ORDER BY id LIMIT ?) RETURNING id, envelope, body"
        )
        self.connection.execute("PRAGMA synchronous = NORMAL")
        while count > 0:
            claimed = self.connection.execute(claim, (batch,)).fetchall()
            with self.connection:
                self.connection.executemany("DELETE FROM messages WHERE id = ?", [row[:1] for row in claimed])
            count -= len(claimed)

    def purge(self) -> None:
        self.connection.execute("DELETE FROM messages")


class Ours:
    name = "engine"

    def __init__(self, transport: SqliteTransport) -> None:
        self.transport = transport

    def publish(self, count: int, batch: int) -> None:
        messages = [message()] * batch
        for _ in range(count // batch):
            assert not any(self.transport.publish(messages))

    def drain(self, count: int, batch: int) -> None:
        self.transport.consume([QUEUE], batch)
        while count > 0:
            deliveries = self.transport.receive(10)
            self.transport.ack(deliveries)
            count -= len(deliveries)
        self.transport.cancel()

    def purge(self) -> None:
        self.transport.purge(QUEUE)


@pytest.mark.parametrize(("batch", "count", "floor"), [(1, 200, 0.2), (10, 2000, 0.3), (100, 5000, 0.28)])
def test_publish(transport: SqliteTransport, tmp_path: Path, batch: int, count: int, floor: float) -> None:
    """Both wait for the disk."""
    both = Ours(transport), Raw(tmp_path / "raw.db")
    clients = Clients(f"SQLite: publish by {batch}", "engine", "apsw", floor)
    for _ in clients.rounds(ROUNDS):
        for client in both:
            with clients.measured(client.name, count):
                client.publish(count, batch)
            client.purge()


@pytest.mark.parametrize(("batch", "count", "floor"), [(1, 500, 0.24), (10, 3000, 0.35), (100, 5000, 0.4)])
def test_claim_and_ack(
    transport: SqliteTransport, tmp_path: Path, batch: int, count: int, floor: float
) -> None:
    both = Ours(transport), Raw(tmp_path / "raw.db")
    clients = Clients(f"SQLite: claim and ack by {batch}", "engine", "apsw", floor)
    for _ in clients.rounds(ROUNDS):
        for client in both:
            client.publish(count, 100)
            with clients.measured(client.name, count):
                client.drain(count, batch)


def forked(work: Callable[[], str]) -> tuple[int, int]:
    """(pid, descriptor to read what `work` returned in the child)."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.write(writing, work().encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    return pid, reading


def answer(child: tuple[int, int]) -> list[float]:
    pid, reading = child
    with os.fdopen(reading) as report:
        words = report.read().split()
    assert os.waitpid(pid, 0)[1] == 0
    return [float(word) for word in words]


@pytest.mark.parametrize("batch", [1, 10, 100])
def test_two_processes(transport: SqliteTransport, url: str, batch: int) -> None:
    """Together they drain no faster than one, but neither starves: nobody waits long for his turn."""
    count = 2000 if batch == 1 else 10_000
    fill(transport, count)

    def consume() -> str:
        own = SqliteTransport(url)
        own.connect()
        own.consume([QUEUE], batch)
        taken, longest_s = 0, 0.0
        cpu_s, wall_s = time.process_time(), time.monotonic()
        while True:
            started_mono_s = time.monotonic()
            deliveries = own.receive(0)
            if not deliveries:
                break
            own.ack(deliveries)
            longest_s = max(longest_s, time.monotonic() - started_mono_s)
            taken += len(deliveries)
        cpu_s, wall_s = time.process_time() - cpu_s, time.monotonic() - wall_s
        own.close()
        return f"{taken} {cpu_s} {wall_s} {longest_s}"

    answers = [answer(child) for child in [forked(consume), forked(consume)]]
    taken, cpu_s, wall_s, longest_s = zip(*answers, strict=True)
    assert sum(taken) == count
    print(
        f"{f'two processes, by {batch}':32} {sum(cpu_s) / count * 1e6:7.1f} µs CPU"
        f"  {count / max(wall_s):9,.0f}/s  shares {min(taken) / count:.0%} to {max(taken) / count:.0%},"
        f" longest turn {max(longest_s) * 1e3:.0f} ms"
    )


def report_arrivals(url: str) -> str:
    """Consume until told to stop; "number moment" of each message."""
    own = SqliteTransport(url)
    own.connect()
    own.consume([QUEUE], 1)
    arrivals: list[str] = []
    while True:
        for delivery in own.receive(60):
            received_mono_s = time.monotonic()
            own.ack([delivery])
            if delivery.body == b"stop":
                own.close()
                return " ".join(arrivals)
            arrivals.append(f"{int(delivery.body)} {received_mono_s}")


def print_waits(label: str, since: list[float], until: list[float]) -> float:
    """The median, in milliseconds."""
    waits = sorted(max(0.0, end - start) * 1e3 for start, end in zip(since, until, strict=True))
    median, near_worst = waits[len(waits) // 2], waits[len(waits) * 99 // 100]
    print(f"{label:44} p50 {median:.2f} ms  p99 {near_worst:.2f} ms")
    return median


@pytest.mark.parametrize("consumers", [1, 8])
def test_wake_up(transport: SqliteTransport, url: str, consumers: int) -> None:
    """From before the publish (and so with its wait for the disk), and from its return."""
    rounds = 150
    children = [forked(lambda: report_arrivals(url)) for _ in range(consumers)]
    while transport.queue_state(QUEUE).consumers != consumers:
        time.sleep(0.01)
    before, after = [], []
    for number in range(rounds):
        time.sleep(0.005)
        before.append(time.monotonic())
        assert transport.publish([message(b"%d" % number)]) == [None]
        after.append(time.monotonic())
    for _ in children:
        assert transport.publish([message(b"stop")]) == [None]
    received = [0.0] * rounds
    for child in children:
        words = answer(child)
        for number_word, moment in zip(words[::2], words[1::2], strict=True):
            received[int(number_word)] = moment
    print_waits(f"wake-up of one in {consumers}, from publish()", before, received)
    assert print_waits(f"wake-up of one in {consumers}, from its return", after, received) < 50
