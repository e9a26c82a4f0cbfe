"""Memory as the kernel counts it, and connections to the broker."""

import os
import socket
import subprocess
import sys

import psutil

from engine.bench.at_rest import connections, pss_bytes


def test_pss_lies_between_what_is_ours_alone_and_what_is_resident() -> None:
    memory = psutil.Process(os.getpid()).memory_full_info()
    assert memory.uss * 0.9 <= pss_bytes(os.getpid()) <= memory.rss * 1.1


def test_a_process_that_is_gone_has_none() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert pss_bytes(process.pid) == 0


def test_only_connections_to_the_broker_count() -> None:
    with socket.create_server(("127.0.0.1", 0)) as broker, socket.create_server(("127.0.0.1", 0)) as other:
        port = broker.getsockname()[1]
        with (
            socket.create_connection(broker.getsockname()),
            socket.create_connection(other.getsockname()),
        ):
            assert connections(os.getpid(), f"amqp://127.0.0.1:{port}//") == 1
        assert connections(os.getpid(), "sqlite:///x.db") == 0
