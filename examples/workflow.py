"""Tasks that follow one another, tasks side by side, and tasks that are tried again.

In one terminal ``engine run workflow.py``, in another ``python workflow.py``.
"""

from engine import Engine, chain, group

app = Engine("workflow")


@app.task
def fetch(page: int) -> list[int]:
    """Pretends to fetch a page of numbers."""
    return list(range(page * 3, page * 3 + 3))


@app.task(bind=True, max_retries=3)
def check(self, numbers: list[int]) -> list[int]:
    """Fails at first, and is sent again; the message keeps its id."""
    if self.request.retries < 1:
        raise self.retry(countdown=0.1)
    return numbers


@app.task
def add_up(numbers: list[int]) -> int:
    return sum(numbers)


if __name__ == "__main__":
    one = chain(fetch.s(1), check.s(), add_up.s()).apply_async()
    print("one page:", one.get(timeout=30))
    pages = group(chain(fetch.s(page), add_up.s()) for page in range(4)).apply_async()
    print("four pages:", pages.get(timeout=30))
