"""The chaos tests use the worker's own places and processes."""

from tests.worker.conftest import place, sqlite_place

__all__ = ["place", "sqlite_place"]
