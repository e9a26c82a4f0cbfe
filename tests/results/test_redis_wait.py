"""A result that is stored in the very moment its caller begins to wait is not missed."""

from __future__ import annotations

import random
import threading
import time

import pytest

from engine.results.base import ResultMeta
from engine.results.redis import RedisStore
from tools.brokers import Redis


@pytest.mark.redis
def test_an_announcement_that_comes_along_with_the_look(redis_server: Redis, unique: str) -> None:
    waiter, writer = RedisStore(redis_server.url), RedisStore(redis_server.url)
    chance = random.Random(5)
    for number in range(300):
        meta = ResultMeta(f"{unique}-{number}", "SUCCESS", number)
        moment = time.perf_counter() + chance.random() * 0.0006

        def store(meta: ResultMeta = meta, moment: float = moment) -> None:
            while time.perf_counter() < moment:
                pass
            writer.store([meta])

        thread = threading.Thread(target=store)
        thread.start()
        began = time.monotonic()
        found = waiter.wait(meta.task_id, 15)
        thread.join()
        assert found is not None
        assert time.monotonic() - began < 5, f"it was noticed late (number {number})"
    waiter.close()
    writer.close()
