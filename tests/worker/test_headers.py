"""Headers that the broker takes and that cannot be read here: one such message harms no other."""

from __future__ import annotations

from typing import Any

import amqp
import pytest

from tests.worker.conftest import Place
from tests.worker.harness import wait_for

pytestmark = pytest.mark.amqp


def test_they_end_in_the_dead_letter_queue(rabbitmq: Any, tmp_path: Any, unique: str) -> None:
    place = Place(rabbitmq.url, None, unique, tmp_path)
    deep: dict[str, Any] = {}
    for _ in range(60):
        deep = {"a": deep}
    body = b"[[1], {}, {}]"
    with place.worker(concurrency=1) as worker:
        with amqp.Connection(f"127.0.0.1:{rabbitmq.port}") as connection:
            message = amqp.Message(
                body,
                content_type="application/json",
                content_encoding="utf-8",
                application_headers={"task": "tests.worker.sample_app.work", "id": "deep", "deep": deep},
            )
            connection.channel().basic_publish(message, routing_key=place.queue)
        place.send("work", "after")
        wait_for(lambda: place.ledger.finished()["after"], what="the message behind it")
        wait_for(lambda: place.ready(f"{place.queue}.dead") == 1, what="the dead letter")
        assert worker.stop() == 0
    assert "died" not in worker.log()
    transport = place.app.open_transport()
    dead = transport.get(f"{place.queue}.dead")
    assert dead is not None
    assert dead.body == body
    with amqp.Connection(f"127.0.0.1:{rabbitmq.port}") as connection:
        transport.close()
        letter = connection.channel().basic_get(f"{place.queue}.dead", no_ack=True)
        assert letter.headers["deep"] == deep, "as it came"
    place.close()
