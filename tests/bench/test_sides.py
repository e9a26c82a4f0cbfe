"""Who can take part where: what a side cannot do is told in one line before anything starts."""

from dataclasses import replace

import pytest

from engine.bench.notes import notes
from engine.bench.plan import RIVALS, Plan
from engine.bench.sides import BY_NAME
from engine.errors import ConfigurationError

BROKERS = {"amqp": "amqp://localhost", "redis": "redis://localhost", "sqlite": "sqlite:////tmp/bench.db"}
SPOKEN = {
    "engine": {"amqp", "redis", "sqlite"},
    "celery": {"amqp", "redis"},
    "dramatiq": {"amqp", "redis"},
    "huey": {"redis", "sqlite"},
    "raw": {"amqp", "redis", "sqlite"},
}


def plan(kind: str) -> Plan:
    return Plan(BROKERS[kind], folder="/tmp", queue="bench-q")


@pytest.mark.parametrize("kind", BROKERS)
@pytest.mark.parametrize("name", SPOKEN)
def test_a_side_takes_part_where_it_speaks_the_broker(name: str, kind: str) -> None:
    side = BY_NAME[name]
    if kind in SPOKEN[name]:
        side.check(plan(kind))
    else:
        with pytest.raises(ConfigurationError, match=f"{kind}://.*leave out --against {name}"):
            side.check(plan(kind))


def test_every_rival_is_a_side() -> None:
    assert {*RIVALS, "engine"} == set(BY_NAME)


@pytest.mark.parametrize(
    ("name", "asked", "told"),
    [
        ("raw", Plan("redis://localhost", results="redis://localhost"), "raw keeps no results"),
        ("huey", Plan("redis://localhost", results="rpc://"), "huey keeps results in its broker"),
        ("dramatiq", Plan("amqp://localhost", results="rpc://"), "dramatiq keeps results in Redis"),
        ("dramatiq", Plan("amqp://localhost", queue_type="quorum"), "no quorum queues"),
        ("raw", Plan("amqps://localhost"), "raw has no amqps:// broker"),
    ],
)
def test_what_a_side_cannot_do_is_told(name: str, asked: Plan, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        BY_NAME[name].check(asked)


def test_dramatiq_prefetches_more_only_where_throughput_is_measured() -> None:
    dramatiq = BY_NAME["dramatiq"]
    assert dramatiq.environ(replace(plan("amqp"), workload="consume")) == {"dramatiq_queue_prefetch": "250"}
    assert dramatiq.environ(replace(plan("amqp"), workload="roundtrip")) == {}


def test_the_notes_say_how_each_side_is_set_up() -> None:
    found = "\n".join(notes(plan("redis"), ["codec", "consume"], list(BY_NAME.values()), None))
    assert "Celery acknowledges before the work" in found
    assert "1 thread a process, and prefetches 250" in found
    assert "huey has no acknowledgement" in found
    assert "raw has no part in codec" in found


def test_confirms_are_spoken_of_where_publishing_is_measured() -> None:
    rivals = [BY_NAME["celery"], BY_NAME["dramatiq"]]
    assert "confirms" not in "\n".join(notes(plan("amqp"), ["consume"], rivals, None))
    assert "\n".join(notes(plan("amqp"), ["publish"], rivals, None)).count("with confirms") == 2
