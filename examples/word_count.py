"""Counts the lines, words and tokens of files, one task a file.

In one terminal ``engine run word_count.py``, in another ``python word_count.py some/folder``.
No server is needed: without a broker URL the tasks wait in the file engine.db of the current folder.
"""

import hashlib
import re
import sys
from pathlib import Path
from typing import Any

from engine import Engine

app = Engine("word_count")
TOKEN = re.compile(rb"\w+|[^\w\s]")  # a word, a number or a sign


@app.task(name="word_count.measure")
def measure(path: str) -> dict[str, Any]:
    """One file: its digest and counts. A file that cannot be read says so instead of failing the task."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        return {"error": type(error).__name__}
    counts = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    if b"\0" in data:  # binary: it has no words
        return counts
    return {
        **counts,
        "lines": data.count(b"\n"),
        "words": len(data.split()),
        "tokens": len(TOKEN.findall(data)),
    }


if __name__ == "__main__":
    files = [str(path) for path in Path(sys.argv[1]).rglob("*") if path.is_file()]
    results = [measure.delay(path) for path in files]
    words = sum(result.get(timeout=60).get("words", 0) for result in results)
    print(f"{len(files)} files, {words} words")
