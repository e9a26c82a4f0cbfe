"""A private Redis: own port, TLS port and data folder; append-only file on, eviction off."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.certificates import Certificates
from tools.debian import ensure_program
from tools.server import Server, free_port


class Redis(Server):
    """``url`` is database 0 without a password; ``rediss_url`` the same over TLS."""

    name = "Redis"

    def __init__(self, folder: Path, config: Mapping[str, str] | None = None) -> None:
        super().__init__(folder)
        self._program = ensure_program("redis-server", "redis-server")
        self.tls_port = free_port()
        self.certificates = Certificates(folder / "tls")
        self.config = dict(config or {})

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def rediss_url(self) -> str:
        return f"rediss://localhost:{self.tls_port}/0"

    @property
    def cafile(self) -> str:
        return str(self.certificates.ca)

    def command(self) -> Sequence[str]:
        tls = self.certificates
        settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "tls-port": str(self.tls_port),
            "tls-ca-cert-file": str(tls.ca),
            "tls-cert-file": str(tls.server_certificate),
            "tls-key-file": str(tls.server_key),
            "tls-auth-clients": "no",
            "dir": str(self.folder),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            **self.config,
        }
        return [self._program, *(word for key, value in settings.items() for word in (f"--{key}", value))]

    def answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
                probe.sendall(b"PING\r\n")
                return probe.recv(5) == b"+PONG"
        except OSError:
            return False
