"""The app's first layer: its settings, and what follows from them."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from datetime import datetime, timezone, tzinfo
from typing import Any

from engine.errors import ConfigurationError
from engine.settings import Settings
from engine.topology import Topology


class AppSettings:
    """Settings are read at their first use; a change of one makes what was derived from them anew."""

    def __init__(self, keywords: Mapping[str, Any], source: Any, namespace: str | None) -> None:
        self._keywords = dict(keywords)
        self._source, self._namespace = source, namespace
        self._conf: Settings | None = None
        self._topology: Topology | None = None
        self._timezone: tzinfo | None = None
        self._lock = threading.RLock()

    @property
    def conf(self) -> Settings:
        """The settings. Raises UnknownSetting or ConfigurationError at the first use of a wrong one."""
        conf = self._conf
        if conf is None:
            with self._lock:
                if self._conf is None:
                    made = Settings(self._keywords, self._source, namespace=self._namespace)
                    made.on_change(self._settings_changed)
                    self._conf = made
                conf = self._conf
        return conf

    def config_from_object(
        self, obj: Any, silent: bool = False, force: bool = False, namespace: str | None = None
    ) -> None:
        """Read settings from a module, its name, or an object. ``force`` reads them now."""
        by_hand = dict(self._conf.set_later) if self._conf is not None else {}
        self._source, self._namespace = obj, namespace
        self._conf = None
        self._settings_changed()
        try:
            if force or by_hand:
                self.conf.update(by_hand)
        except ConfigurationError:
            if not silent:
                raise
            self._source = None

    def config_from_envvar(self, variable_name: str, silent: bool = False, force: bool = False) -> bool:
        """Read settings from the module that an environment variable names."""
        module = os.environ.get(variable_name)
        if not module:
            if silent:
                return False
            raise ConfigurationError(
                f"{variable_name} is not set: it is to name the module with the settings"
            )
        self.config_from_object(module, silent, force)
        return True

    def _settings_changed(self) -> None:
        self._topology = self._timezone = None

    @property
    def topology(self) -> Topology:
        """Queues and routes."""
        topology = self._topology
        if topology is None:
            topology = self._topology = Topology(self.conf)
        return topology

    @property
    def timezone(self) -> tzinfo:
        """The setting ``timezone`` (UTC by default)."""
        if self._timezone is None:
            self._timezone = _zone(self.conf.timezone)
        return self._timezone

    def now(self) -> datetime:
        """Now, in UTC, or in the app's zone when enable_utc is off."""
        return datetime.now(timezone.utc if self.conf.enable_utc else self.timezone)


def _zone(name: str | None) -> tzinfo:
    if not name or name.upper() == "UTC":
        return timezone.utc
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise ConfigurationError(f"timezone: there is no time zone {name!r}") from None
