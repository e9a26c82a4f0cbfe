"""Draws where a worker's CPU goes: ``python -m tools.flame OUT.svg [arguments of engine bench consume]``.

``perf`` samples one ``engine bench consume`` a thousand times a second; what its children do while they work
is put together by their calls. The width of a box is the share of the samples in which that function, or one
it called, was running. Python code between native functions shows as the interpreter.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from engine.bench.svg import Drawing
from tools.debian import BrokerUnavailable, ensure_program

HERTZ = 997
STACK_BYTES = 16384
ATTEMPTS = 8
FOLLOWED = 0.7  #: share of the children's samples that must be seen to come from their loop
WIDTH, ROW, MARGIN = 1100, 20, 12
SMALLEST = 0.004  #: a box with a smaller share is left out
CHILD = "engine-child-"
LOOP = "Turn.work"
GROUNDS = (
    (re.compile(r"^kernel"), "#cbd5e1"),
    (re.compile(r"^(codec|orjson)"), "#93c5fd"),
    (re.compile(r"^work"), "#bfdbfe"),
    (re.compile(r"^interpreter"), "#fde68a"),
)
OTHER = "#e2e8f0"

_MANGLED = re.compile(r"^__pyx_(?:f|pw|pf)_6engine_\d+_(codec|work)_(.*)$")
_SIZED = re.compile(r"^(\d+)(.+)$")
_SYSCALL = re.compile(r"^__(?:x64|arm64)_sys_(\w+)$")
_INTERPRETER = (
    "_PyEval",
    "PyEval",
    "_PyFunction",
    "PyObject_Call",
    "PyObject_Vectorcall",
    "method_vectorcall",
)


def main(arguments: list[str]) -> int:
    if not arguments:
        print(__doc__)
        return 2
    try:
        perf = ensure_program("perf", "linux-perf")
    except BrokerUnavailable as error:
        print(f"no picture: {error}")
        return 1
    for _ in range(ATTEMPTS):
        with tempfile.TemporaryDirectory(prefix="engine-perf-") as folder:
            samples = list(sampled(perf, Path(folder) / "data", arguments[1:]))
        stacks = fold(iter(samples))
        if stacks.total() >= FOLLOWED * len(samples) > 0:
            break
        print("perf could not follow most of the calls this time", file=sys.stderr)
    else:
        print(f"no picture: {len(samples)} samples of children, {stacks.total()} of them seen in their loop")
        return 1
    Path(arguments[0]).write_text(drawn(stacks))
    for part, share in parts(stacks):
        print(f"{share:6.1%}  {part}")
    return 0


def sampled(perf: str, data: Path, arguments: list[str]) -> Iterator[list[str]]:
    """The stacks of all children, the outermost call first."""
    record = [perf, "record", "-q", "-e", "cpu-clock", "-F", str(HERTZ)]
    record += ["--call-graph", f"dwarf,{STACK_BYTES}", "-o", str(data), "--"]
    engine = str(Path(sys.executable).with_name("engine"))
    bench = [engine, "bench", "consume", "--runs", "1", *arguments]
    subprocess.run([*record, *bench], check=True, stdout=sys.stderr)
    script = [perf, "script", "-i", str(data), "-F", "comm,ip,sym"]
    done = subprocess.run(script, check=True, capture_output=True, text=True)
    for sample in done.stdout.split("\n\n"):
        comm, *frames = sample.strip("\n").split("\n")
        if comm.startswith(CHILD):
            yield [frame.split(maxsplit=1)[-1].strip() for frame in reversed(frames)]


def fold(stacks: Iterator[list[str]]) -> Counter[tuple[str, ...]]:
    """How often each way from the loop on was seen; names as people know them, none twice in a row."""
    found: Counter[tuple[str, ...]] = Counter()
    for stack in stacks:
        path: list[str] = []
        for frame in stack:
            name = known_as(frame)
            if name and (not path or path[-1] != name):
                path.append(name)
        at = next((place for place, name in enumerate(path) if name == f"work: {LOOP}"), None)
        if at is not None:
            found[tuple(until_the_kernel(path[at:]))] += 1
    return found


def until_the_kernel(path: list[str]) -> list[str]:
    """What happens inside a system call is the system's affair."""
    at = next((place for place, name in enumerate(path) if name.startswith("kernel")), len(path))
    return path[: at + 1]


def known_as(frame: str) -> str:
    """A function's name as its author wrote it; "" for one that says nothing."""
    frame = frame.removesuffix(" (inlined)")
    mangled = _MANGLED.match(frame)
    if mangled:
        return f"{mangled[1]}: {demangled(mangled[2])}"
    call = _SYSCALL.match(frame)
    if call:
        return f"kernel: {call[1]}"
    if frame.startswith(_INTERPRETER):
        return "interpreter"
    return "orjson" if "orjson" in frame else ""


def demangled(name: str) -> str:
    """Cython writes lengths before the names of classes and methods: ``4Turn_one``, ``4Turn_5work``."""
    words = []
    while match := _SIZED.match(name):
        size = int(match[1])
        rest = match[2]
        words.append(rest[:size] if rest[size : size + 1] in ("_", "") else rest)
        name = rest[size + 1 :] if rest[size : size + 1] == "_" else ""
        if name and not name[0].isdigit():
            words.append(name)
            break
    else:
        if not words:
            words.append(name)
    return ".".join(word for word in words if word)


@dataclass
class Box:
    """A function in one place of the tree."""

    count: int = 0
    inner: dict[str, Box] = field(default_factory=dict)


def tree(stacks: Counter[tuple[str, ...]]) -> Box:
    root = Box()
    for path, count in stacks.items():
        box = root
        box.count += count
        for name in path:
            box = box.inner.setdefault(name, Box())
            box.count += count
    return root


def parts(stacks: Counter[tuple[str, ...]]) -> list[tuple[str, float]]:
    """The share of each innermost function: what it did by itself."""
    alone: Counter[str] = Counter()
    for path, count in stacks.items():
        alone[path[-1]] += count
    total = sum(alone.values())
    return [(name, count / total) for name, count in alone.most_common(25)]


def drawn(stacks: Counter[tuple[str, ...]]) -> str:
    """The picture, the loop on top and what it calls below."""
    root = tree(stacks)
    drawing = Drawing(WIDTH)
    deepest = draw(drawing, root, MARGIN, WIDTH - 2 * MARGIN, 0, root.count)
    height = 2 * MARGIN + (deepest + 1) * ROW
    return drawing.document(height, "Where the CPU time of a worker's process goes, by function")


def draw(drawing: Drawing, box: Box, x: float, width: float, level: int, total: int) -> int:
    """Draw what ``box`` calls into its width; the deepest level reached."""
    deepest = level - 1
    for name, inner in sorted(box.inner.items()):
        wide = width * inner.count / box.count
        if inner.count / total < SMALLEST:
            continue
        y = MARGIN + level * ROW
        fill = next((colour for pattern, colour in GROUNDS if pattern.match(name)), OTHER)
        drawing.rect(x + 0.5, y, wide - 1, ROW - 2, fill, radius=2)
        label = f"{name} {inner.count / total:.0%}"
        room = int((wide - 6) / 6.2)
        if room >= 3:
            drawing.text(x + 4, y + 13, label if len(label) <= room else label[: room - 1] + "…", size=11)
        deepest = max(deepest, level, draw(drawing, inner, x, wide, level + 1, total))
        x += wide
    return deepest


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
