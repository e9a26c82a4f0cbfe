"""Printing: data as JSON or as a table. rich is imported only for a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

_WIDTH_WITHOUT_TERMINAL = 200


def print_json(value: Any) -> None:
    """One JSON document on stdout; what JSON does not know is written as text."""
    import json  # orjson refuses integers above 64 bits, and a task may return one

    click.echo(json.dumps(value, default=_plain, ensure_ascii=False, indent=2))


def _plain(value: Any) -> Any:
    return sorted(value, key=repr) if isinstance(value, (set, frozenset)) else str(value)


def print_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1, title: str = ""
) -> None:
    """A table on stdout; the first ``left`` columns are text, the others figures."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="left" if index < left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = _WIDTH_WITHOUT_TERMINAL
    console.print(table)


def age(seconds: float | None) -> str:
    """An age as one reads it: 850 ms, 12 s, 3 min, 2 h, 4 d."""
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def count(value: int | None) -> str:
    """A count, grouped; a dash when the broker does not tell."""
    return "–" if value is None else f"{value:,}"
