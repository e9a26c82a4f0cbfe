"""What mypy says of a user's code: calls keep their parameters, results their type."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mypy import api

CODE = """
from typing import Any
from engine import Engine, Task

app = Engine("x")

@app.task
def add(a: int, b: int = 1) -> int: return a + b

@app.task(bind=True, max_retries=3)
def bound(self: Task[Any, Any], text: str) -> bytes: return text.encode()

@app.task(queue="q")
async def later(a: int) -> float: return a / 2

reveal_type(add(1))
reveal_type(add.delay(1, b=2).get())
reveal_type(bound.delay("x").get())
reveal_type(later.delay(1))
add.delay("x")
bound.delay(b"x")
later.delay()

async def main() -> None:
    reveal_type(await later.delay(1))
"""


@pytest.mark.slow
def test_calls_are_typed(tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(CODE)
    out, problems, _ = api.run(["--strict", "--cache-dir=.mypy_cache", str(tmp_path / "user.py")])
    assert problems == ""
    said = [line.partition("user.py:")[2] for line in out.splitlines() if "user.py:" in line]
    revealed = [match[1] for line in said if (match := re.search(r'Revealed type is "(.*)"', line))]
    assert revealed == ["int", "int", "bytes", "engine.async_result.AsyncResult[float]", "float"]
    errors = [line for line in said if "error" in line]
    assert len(errors) == 3
    assert [re.search(r"\[([a-z-]+)\]$", line)[1] for line in errors] == ["arg-type", "arg-type", "call-arg"]  # type: ignore[index]
