"""Fixtures of the worker's tests: one place for each broker, and the app that the test itself calls."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from engine.app import Engine
from engine.canvas import chain
from engine.errors import QueueNotFound, TransportError
from tests.worker.harness import Ledger, Worker


@dataclass
class Place:
    """Where one test's worker and its caller meet."""

    broker: str
    backend: str | None
    queue: str
    folder: Path
    environ: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.folder / "ledger")
        self.environ = {
            "SAMPLE_BROKER": self.broker,
            "SAMPLE_QUEUE": self.queue,
            "SAMPLE_LEDGER": str(self.ledger.path),
            **({"SAMPLE_BACKEND": self.backend} if self.backend else {}),
        }
        self.app = Engine(
            "caller",
            broker=self.broker,
            backend=self.backend,
            task_default_queue=self.queue,
            control_exchange=self.queue,  # a broadcast of one test is not heard in another
            set_as_current=False,
        )

    def worker(self, **options: Any) -> Worker:
        return Worker(self.folder, self.environ, **options)

    def send(self, name: str, *args: Any, **options: Any) -> Any:
        """Send a task of the sample app, as any caller would."""
        return self.app.send_task(f"tests.worker.sample_app.{name}", args, **options)

    def gate(self, name: str = "gate") -> Path:
        """What a task that is given its name waits for: ``touch`` lets it end."""
        return self.folder / name

    def send_many(self, name: str, keys: range, *args: Any) -> None:
        with self.app.batch() as box:
            for key in keys:
                self.send(name, key, *args, producer=box)

    def ready(self, queue: str | None = None) -> int:
        """Messages that wait in a queue; 0 when there is none."""
        transport = self.app.open_transport()
        try:
            return transport.queue_state(queue or self.queue).ready
        except QueueNotFound:
            return 0
        finally:
            transport.close()

    def close(self) -> None:
        transport = self.app.open_transport()
        for name in (self.queue, f"{self.queue}.dead"):
            with contextlib.suppress(TransportError):
                transport.delete_queue(name)
        transport.close()
        self.app.close()


def chain_of(place: Place, steps: list[tuple[str, tuple[Any, ...]]]) -> Any:
    """Send a chain of the sample app's tasks; the result of its last step."""
    signatures = [place.app.signature(f"tests.worker.sample_app.{name}", args) for name, args in steps]
    return chain(*signatures, app=place.app).apply_async()


@pytest.fixture
def sqlite_place(tmp_path: Path, unique: str) -> Iterator[Place]:
    place = Place(f"sqlite:///{tmp_path}/broker.db", None, unique, tmp_path)
    yield place
    place.close()


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("amqp", marks=pytest.mark.amqp),
        pytest.param("redis", marks=pytest.mark.redis),
    ]
)
def place(request: pytest.FixtureRequest, tmp_path: Path, unique: str) -> Iterator[Place]:
    """Each broker in turn."""
    if request.param == "sqlite":
        broker, backend = f"sqlite:///{tmp_path}/broker.db", None
    elif request.param == "amqp":
        broker = request.getfixturevalue("rabbitmq").url
        backend = f"sqlite:///{tmp_path}/results.db"
    else:
        broker = backend = request.getfixturevalue("redis_server").url
    made = Place(broker, backend, unique, tmp_path)
    yield made
    made.close()
