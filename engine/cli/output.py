"""Printing: data as JSON or as a table. rich is imported only for a table."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import click

_WIDEST = 10_000
_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def print_json(value: Any) -> None:
    """One JSON document on stdout; what JSON does not know is written as text."""
    import json  # orjson refuses integers above 64 bits, and a task may return one

    try:
        text = json.dumps(value, default=_plain, ensure_ascii=False, indent=2, allow_nan=False)
    except ValueError:  # a nan or an infinity, which JSON does not have
        text = json.dumps(_finite(value), default=_plain, ensure_ascii=False, indent=2, allow_nan=False)
    click.echo(_SURROGATE.sub(_escaped, text))


def _finite(value: Any) -> Any:
    """null for what is no number, as JavaScript writes it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_finite(item) for item in value]
    return value


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\u{code:04x}" if code > 0xFF else f"\\x{code:02x}"


def printable(text: str) -> str:
    """The text, with what no encoding writes (half of a surrogate pair) escaped."""
    return _SURROGATE.sub(_escaped, text)


def plain(text: str) -> str:
    """A text from outside for a terminal: control characters but newline and tab are escaped."""
    return _CONTROL.sub(_escaped, text)


def _plain(value: Any) -> Any:
    return sorted(value, key=repr) if isinstance(value, (set, frozenset)) else str(value)


def print_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1, title: str = ""
) -> None:
    """A table on stdout; the first ``left`` columns are text, the others figures."""
    from rich import box
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="left" if index < left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console(highlight=False, markup=False)
    # a figure that is cut off is of no use: a table too wide for the terminal is wrapped by it
    needed = Measurement.get(console, console.options.update_width(_WIDEST), table).maximum
    console.width = max(console.width, needed)
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
