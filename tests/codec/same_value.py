"""Equality that also compares types, takes NaN for equal to NaN, and tells 0.0 from -0.0."""

from __future__ import annotations

import math
from typing import Any


def same_value(left: Any, right: Any) -> bool:
    """Whether two decoded values are the same in every type, order of keys included."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return (math.isnan(left) and math.isnan(right)) or (
            left == right and math.copysign(1, left) == math.copysign(1, right)
        )
    if isinstance(left, dict):
        return list(left) == list(right) and all(same_value(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same_value, left, right))
    return bool(left == right)
