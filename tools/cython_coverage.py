"""Cython's coverage plug-in, finding the extension's sources from any working directory.

Traced code names its source relative to where it was built (``engine/_codec.pyx``). Cython's plug-in looks
for that from the working directory, which in the tests' subprocesses is some other folder, or is gone; then
it gives up, and those lines count as never run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from Cython import Coverage

ROOT = Path(__file__).resolve().parent.parent
_find = Coverage._find_dep_file_path


def _find_from_root(main_file: Any, file_path: str, relative_path_search: bool = False) -> Any:
    found = ROOT / file_path
    if found.exists():
        return str(found)
    return _find(main_file, file_path, relative_path_search)


Coverage._find_dep_file_path = _find_from_root
coverage_init = Coverage.coverage_init
