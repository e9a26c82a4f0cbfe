"""CPU time of real processes, and finding a broker by its port."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from engine.bench.cpu import CpuMeter, broker_address, cpu_s, find_broker, is_local, process_tree
from tools.brokers import RabbitMQ, Redis

_BURN = "import sys,time\nwhile time.process_time() < {s}: pass\nprint('burnt', flush=True)\nsys.stdin.read()"


@contextmanager
def burning(source: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has burnt its CPU time and now waits."""
    process = subprocess.Popen(
        [sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process, process.stdin, process.stdout:
        assert process.stdout.readline() == "burnt\n"
        yield process


def test_own_cpu_time_agrees_with_the_process_clock() -> None:
    import os

    used = cpu_s(os.getpid())
    assert used is not None
    assert used == pytest.approx(time.process_time(), abs=0.05)


def test_cpu_time_of_another_process() -> None:
    with burning(_BURN.format(s=0.3)) as process:
        used = cpu_s(process.pid)
        assert used is not None
        assert 0.3 <= used < 0.5


def test_a_process_that_is_gone_has_none() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert cpu_s(process.pid) is None
    assert process_tree(process.pid) == []


def test_meter_counts_children_and_keeps_the_dead() -> None:
    child = _BURN.format(s=0.2)
    parent = (
        "import subprocess,sys\n"
        "pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], **pipes)\n"
        "child.stdout.readline(); print('burnt', flush=True)\n"
        "sys.stdin.readline(); child.communicate(); print('reaped', flush=True); sys.stdin.read()"
    )
    with burning(parent) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        meter = CpuMeter([process.pid])
        before_s = meter.read_s()
        assert before_s >= 0.2
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "reaped\n"
        assert len(process_tree(process.pid)) == 1
        assert meter.read_s() >= before_s


def test_this_machine_is_local() -> None:
    assert is_local("localhost")
    assert is_local("127.0.0.1")
    assert not is_local("192.0.2.1")  # RFC 5737: nobody's address
    assert not is_local("no-such-host.invalid")


def test_a_listening_process_is_found_by_its_port() -> None:
    import os

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        found = find_broker(f"amqp://guest:guest@127.0.0.1:{port}//")
    assert found is not None
    assert found.pid == os.getpid()
    assert find_broker(f"redis://127.0.0.1:{port}/0") is None


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("amqp://user:secret@host//", ("host", 5672)),
        ("amqps://;amqp://other", ("localhost", 5671)),
        ("rediss://host:7000/1", ("host", 7000)),
        ("sqlite:///x.db", ("localhost", None)),
        ("", ("", None)),
    ],
)
def test_address_of_a_broker(url: str, expected: tuple[str, int | None]) -> None:
    assert broker_address(url) == expected


def test_no_process_for_a_file_or_another_machine() -> None:
    assert find_broker("sqlite:///somewhere.db") is None
    assert find_broker("amqp://192.0.2.1//") is None
    assert find_broker("no url at all") is None


@pytest.mark.amqp
def test_rabbitmq_is_found(rabbitmq: RabbitMQ) -> None:
    found = find_broker(rabbitmq.url)
    assert found is not None
    assert "beam" in found.name
    assert found.meter().read_s() > 0


@pytest.mark.redis
def test_redis_is_found(redis_server: Redis) -> None:
    found = find_broker(redis_server.url)
    assert found is not None
    assert found.name.startswith("redis")


def test_a_tree_has_all_generations() -> None:
    nested = "sh -c 'sh -c \"echo; read line; :\"; :'; :"
    with subprocess.Popen(["sh", "-c", nested], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        tree = process_tree(process.pid)
        process.communicate()  # the end of its input ends them all
    assert tree[0] == process.pid
    assert len(set(tree)) == len(tree) == 3
    assert process_tree(process.pid) == []
