"""An app that sets up logging of its own while it is imported."""

from __future__ import annotations

import logging
import logging.config
import os

from engine import signals
from tests.worker.sample_app import app

__all__ = ["app"]

logging.getLogger("sample.import").warning("said at import")
if os.environ["SAMPLE_LOGGING"] == "basic":
    logging.basicConfig(format="OWN %(name)s %(message)s", level=logging.INFO)
elif os.environ["SAMPLE_LOGGING"] == "dict":  # disables the loggers there are
    logging.config.dictConfig(
        {
            "version": 1,
            "formatters": {"own": {"format": "OWN %(name)s %(message)s"}},
            "handlers": {"own": {"class": "logging.StreamHandler", "formatter": "own"}},
            "root": {"handlers": ["own"], "level": "INFO"},
        }
    )
else:

    @signals.setup_logging.connect
    def set_up(loglevel: int, **_named: object) -> None:
        logging.basicConfig(format="SIGNAL %(name)s %(message)s", level=loglevel)
