"""Workloads that look at one thing in several sizes, and what each size changes in the plan.

Those of a family run in turn, and each row tells its cost beside that of the family's first, the smallest.
"""

from __future__ import annotations

#: The greatest depth of ``growth``, at scale 1.
MOST_QUEUED = 1_000_000

_QUEUED = {"1k": 1_000, "10k": 10_000, "100k": 100_000, "1m": MOST_QUEUED}
_NAMES = {"1": 1, "100": 100, "10k": 10_000}
_BYTES = {"100b": 100, "1k": 1_000, "100k": 100_000, "10m": 10_000_000}

#: Family → workload → fields of the plan.
FAMILIES: dict[str, dict[str, dict[str, int]]] = {
    "growth": {f"growth-{name}": {"queued": count} for name, count in _QUEUED.items()},
    "growth-children": {f"growth-children-{count}": {"concurrency": count} for count in (1, 4, 16, 64)},
    "growth-queues": {f"growth-queues-{count}": {"queues": count} for count in (1, 10, 50)},
    "growth-tasks": {f"growth-tasks-{name}": {"names": count} for name, count in _NAMES.items()},
    "bodies": {f"bodies-{name}": {"payload": count} for name, count in _BYTES.items()},
}

POINTS: dict[str, dict[str, int]] = {
    name: fields for family in FAMILIES.values() for name, fields in family.items()
}
FAMILY_OF = {name: family for family, points in FAMILIES.items() for name in points}


def within(workloads: tuple[str, ...], scale: float) -> tuple[str, ...]:
    """Those of a group that the scale has room for: depths up to so many millions. Never none."""
    found = tuple(name for name in workloads if POINTS.get(name, {}).get("queued", 0) <= MOST_QUEUED * scale)
    return found or workloads[:1]
