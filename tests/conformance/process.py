"""The other process of a conformance test: opens a transport and runs one function of a test module."""

from __future__ import annotations

import json
import sys
from importlib import import_module

from engine.transport import TransportOptions, transport_class


def main() -> None:
    call = json.loads(sys.argv[1])
    transport = transport_class(call["url"])(call["url"], TransportOptions(**call["options"]))
    transport.connect()
    getattr(import_module(call["module"]), call["function"])(transport, *call["arguments"])
    transport.close()


if __name__ == "__main__":
    main()
