"""Writes docs/settings.md from the rows of `engine.settings_rows`, so that page and code cannot differ.

``python -m tools.gen_settings_doc`` writes it; with ``--check`` it only says whether the page is current.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from engine import settings_rows
from engine.settings_ignored import IGNORED
from engine.settings_rows import Row
from engine.settings_unbuilt import UNBUILT

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "settings.md"

_SECTIONS = (
    ("Content, time and modules", settings_rows.GENERAL),
    ("Broker", settings_rows.BROKER),
    ("Results", settings_rows.RESULT),
    ("Tasks", settings_rows.TASK),
    ("Publishing", settings_rows.PRODUCER),
    ("Worker", settings_rows.WORKER),
    ("Remote control and events", settings_rows.CONTROL),
    ("Periodic tasks", settings_rows.BEAT),
    ("Redis result store", settings_rows.REDIS),
)

_HEAD = """\
# Settings

<!-- Written by `python -m tools.gen_settings_doc` from engine/settings_rows.py: change that, then run it. -->

A setting can be given, from weakest to strongest:

1. in the environment: `ENGINE_` and the name in capitals, `ENGINE_BROKER_URL` (lists with commas, dicts as
   JSON); `CELERY_BROKER_URL`, `CELERY_BROKER_READ_URL`, `CELERY_BROKER_WRITE_URL` and `CELERY_RESULT_BACKEND`
   are read too;
2. in a config module, object or mapping: `app.config_from_object("celeryconfig")`;
3. as a keyword of the app: `Engine("shop", broker_url="redis://localhost")`;
4. at run time: `app.conf.task_default_queue = "shop"`.

A name nobody knows is an error that names the nearest known one. Celery's old upper-case names
(`CELERY_TASK_SERIALIZER`) are read as well. Times are seconds, or a `timedelta` in Python.
*(accepted, no effect yet)* marks settings of things that are not built; a worker warns of each one changed.
"""

_IGNORED_HEAD = """
## Celery settings without meaning here

They are accepted, so that a Celery configuration loads unchanged; each one set gives one warning with this
reason. A name that ends in `*` stands for a whole section.

| setting | why it has no effect |
|---|---|
"""


def render() -> str:
    """The whole page."""
    parts = [_HEAD]
    for title, rows in _SECTIONS:
        parts.append(f"\n## {title}\n\n| setting | takes | default | what it does |\n|---|---|---|---|\n")
        parts += [_line(row, row.name in UNBUILT) for row in rows]
    parts.append(_IGNORED_HEAD)
    parts += [f"| `{name}` | {_cell(reason)} |\n" for name, reason in IGNORED.items()]
    return "".join(parts)


def unread_settings() -> set[str]:
    """Settings that no module reads: what `engine.settings_unbuilt` has to list, neither more nor less."""
    sources = [path for path in (ROOT / "engine").rglob("*.py") if not path.name.startswith("settings_")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    # a row with one choice has nothing to read
    open_ones = [row.name for row in settings_rows.ROWS if len(row.choices) != 1]
    return {name for name in open_ones if not re.search(rf"\b{name}\b", text)}


def _line(row: Row, unbuilt: bool) -> str:
    doc = f"*(accepted, no effect yet)* {row.doc}" if unbuilt else row.doc
    return f"| `{row.name}` | {_cell(_takes(row))} | {_default(row.default)} | {_cell(doc)} |\n"


def _takes(row: Row) -> str:
    kind = row.kind.replace(" | None", " or None")
    if row.choices:
        kind = ", ".join(str(choice) for choice in row.choices)
    return f"{kind}, at least {row.minimum:g}" if row.minimum else kind


def _default(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(f"`{item}`" for item in value) or "none"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"`{value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether the page is current")
    checking = parser.parse_args().check
    page = render()
    if checking:
        current = PAGE.exists() and PAGE.read_text(encoding="utf-8") == page
        print(
            "docs/settings.md is current"
            if current
            else "docs/settings.md is stale: run `python -m tools.gen_settings_doc`"
        )
        return 0 if current else 1
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
