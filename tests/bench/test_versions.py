"""What took part, as it says of itself."""

import re

import pytest

from engine.bench.machine import describe_machine
from engine.bench.versions import broker_version, versions
from tools.brokers import RabbitMQ, Redis


def test_sides_and_their_clients_are_named() -> None:
    found = versions(["engine", "dramatiq", "huey"], "sqlite:///x.db")
    assert {"engine", "Python", "dramatiq", "pika", "huey", "redis", "SQLite"} <= set(found)
    assert "celery" not in found
    assert all(re.match(r"\d+\.\d+", version) for version in found.values())


def test_a_broker_that_cannot_be_asked_is_left_out() -> None:
    assert "RabbitMQ" not in versions(["engine"], "amqp://127.0.0.1:1//")
    assert broker_version("amqps://localhost") == {}
    assert broker_version("memory://") == {}


@pytest.mark.amqp
def test_rabbitmq_tells(rabbitmq: RabbitMQ) -> None:
    assert re.match(r"\d+\.\d+", broker_version(rabbitmq.url)["RabbitMQ"])


@pytest.mark.redis
def test_redis_tells(redis_server: Redis) -> None:
    assert re.match(r"\d+\.\d+", broker_version(redis_server.url)["Redis"])


def test_the_machine_is_described() -> None:
    found = describe_machine()
    assert found["cpus"] >= 1
    assert found["memory_gib"] > 0
    assert "Python" in found["python"]
