"""Private RabbitMQ and Redis servers for tests and for a curious user.

``python -m tools.brokers start`` starts both on free ports, with their data under ``.cache/brokers``, and
prints their URLs; ``status`` prints them again; ``stop`` ends them. Name one (``start redis``) for it alone.

Tests that run in several processes have servers of their own for each: the functions take the process' name.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tools.debian import BrokerUnavailable
from tools.rabbitmq import RabbitMQ
from tools.redis_server import Redis
from tools.server import Server

__all__ = ["BrokerUnavailable", "RabbitMQ", "Redis", "running", "start", "stop"]

STATE = Path(__file__).resolve().parent.parent / ".cache" / "brokers"
KINDS: dict[str, type[RabbitMQ] | type[Redis]] = {"rabbitmq": RabbitMQ, "redis": Redis}
_PORTS = ("port", "tls_port", "dist_port", "epmd_port")


def running(kind: str, process: str = "") -> Server | None:
    """The server of that kind, if one is up: the shared one, or that of a process of the tests."""
    record = STATE / process / f"{kind}.json"
    if not record.exists():
        return None
    state = json.loads(record.read_text())
    server = KINDS[kind](Path(state["folder"]))
    server.pid = state["pid"]
    for name in _PORTS:
        if name in state:
            setattr(server, name, state[name])
    if server.running and server.answers():
        return server
    return None


def start(kind: str, process: str = "") -> Server:
    """The server of that kind, started if it is not up. Raises BrokerUnavailable."""
    with _locked(STATE / process) as state_folder:
        server = running(kind, process)
        if server is not None:
            return server
        folder = state_folder / kind
        shutil.rmtree(folder, ignore_errors=True)
        server = KINDS[kind](folder)
        server.start()
        state = {name: getattr(server, name) for name in _PORTS if hasattr(server, name)}
        record = state_folder / f"{kind}.json"
        record.write_text(json.dumps({"folder": str(folder), "pid": server.pid, **state}))
        return server


def stop(kind: str, process: str = "") -> bool:
    """End the server of that kind; whether there was one."""
    with _locked(STATE / process) as state_folder:
        server = running(kind, process)
        if server is not None:
            server.stop()
        (state_folder / f"{kind}.json").unlink(missing_ok=True)
        shutil.rmtree(state_folder / kind, ignore_errors=True)
        return server is not None


@contextmanager
def _locked(folder: Path) -> Iterator[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.brokers", description=__doc__)
    parser.add_argument("action", choices=["start", "stop", "status"])
    parser.add_argument("kinds", nargs="*", metavar="{rabbitmq,redis}", help="default: both")
    options = parser.parse_args(argv)
    unknown = set(options.kinds) - set(KINDS)
    if unknown:
        parser.error(f"no broker named {', '.join(sorted(unknown))}: use rabbitmq or redis")
    failed = 0
    for kind in options.kinds or KINDS:
        try:
            line = _act(options.action, kind)
        except BrokerUnavailable as error:
            failed = 1
            line = f"not available: {error}"
        print(f"{kind:9} {line}")
    return failed


def _act(action: str, kind: str) -> str:
    if action == "stop":
        return "stopped" if stop(kind) else "was not running"
    server = start(kind) if action == "start" else running(kind)
    return server.url if server is not None else "not running"


if __name__ == "__main__":
    sys.exit(main())
