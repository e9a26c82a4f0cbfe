"""When a publish is tried again, and after which pause. Pure: no clock, no sleeping.

The policy is kombu's: ``max_retries`` (None: until the deadline), ``interval_start``, ``interval_step``,
``interval_max`` (seconds) and ``retry_errors`` (further exception classes).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.errors import (
    AccessRefused,
    ConfigurationError,
    ConnectionFailed,
    ConnectionLost,
    PublishRefused,
    PublishUnknown,
    TransportClosed,
)

_AGAIN = (ConnectionFailed, ConnectionLost, TransportClosed, PublishUnknown, PublishRefused)
_FIELDS = frozenset(
    {"max_retries", "interval_start", "interval_step", "interval_max", "retry_errors", "errback", "callback"}
)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and after which pauses a publish is tried again."""

    max_retries: int | None = 3
    interval_start: float = 0.0
    interval_step: float = 0.2
    interval_max: float = 1.0
    retry_errors: tuple[type[BaseException], ...] = ()

    @classmethod
    def of(cls, policy: Mapping[str, Any] | None) -> RetryPolicy:
        """Raises ConfigurationError for a field that no policy has."""
        if not policy:
            return DEFAULT
        unknown = set(policy) - _FIELDS
        if unknown:
            raise ConfigurationError(
                f"retry_policy has no {', '.join(sorted(unknown))}; it has {', '.join(sorted(_FIELDS))}"
            )
        most = policy.get("max_retries", 3)
        return cls(
            max_retries=None if most is None else int(most),
            interval_start=float(policy.get("interval_start", 0.0)),
            interval_step=float(policy.get("interval_step", 0.2)),
            interval_max=float(policy.get("interval_max", 1.0)),
            retry_errors=tuple(policy.get("retry_errors") or ()),
        )

    def applies_to(self, error: BaseException) -> bool:
        """Whether trying again may help. Refused credentials stay refused."""
        if isinstance(error, self.retry_errors):
            return True
        return isinstance(error, _AGAIN) and not isinstance(error, AccessRefused)

    def allows(self, retries: int) -> bool:
        """Whether there may be another try after ``retries`` of them."""
        return self.max_retries is None or retries < self.max_retries

    def pause_s(self, retries: int) -> float:
        """The pause before retry number ``retries`` (from 0)."""
        return min(self.interval_start + retries * self.interval_step, self.interval_max)


DEFAULT = RetryPolicy()
NEVER = RetryPolicy(max_retries=0)
