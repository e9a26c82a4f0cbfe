"""A private RabbitMQ node: own node name, data folder, and AMQP, TLS, distribution and epmd ports."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.certificates import Certificates
from tools.debian import ensure_program
from tools.server import Server, free_port

#: Erlang's schedulers spin while idle by default; on a small machine that is CPU taken from the tests.
NO_BUSY_WAIT = "+sbwt none +sbwtdcpu none +sbwtdio none"


class RabbitMQ(Server):
    """``url`` and ``amqps_url`` are for the guest user; ``ctl`` runs rabbitmqctl against the node."""

    name = "RabbitMQ"

    def __init__(self, folder: Path, config: Mapping[str, str] | None = None) -> None:
        super().__init__(folder)
        self._program = ensure_program("rabbitmq-server", "rabbitmq-server")
        # Debian's wrapper in /usr/sbin changes to the rabbitmq user; the script it wraps does not.
        inner = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
        if inner.exists():
            self._program = str(inner)
        self.tls_port = free_port()
        self.dist_port = free_port()
        self.epmd_port = free_port()
        self.certificates = Certificates(folder / "tls")
        self.config = dict(config or {})

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    @property
    def amqps_url(self) -> str:
        return f"amqps://guest:guest@localhost:{self.tls_port}//"

    @property
    def cafile(self) -> str:
        return str(self.certificates.ca)

    def command(self) -> Sequence[str]:
        return [self._program]

    def environment(self) -> Mapping[str, str]:
        folder = str(self.folder)
        return {
            **os.environ,
            "HOME": folder,
            "RABBITMQ_NODENAME": f"engine-{self.port}@localhost",
            "RABBITMQ_MNESIA_BASE": f"{folder}/data",
            "RABBITMQ_LOG_BASE": f"{folder}/log",
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
            "RABBITMQ_CONF_ENV_FILE": f"{folder}/none",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/enabled_plugins",
            "RABBITMQ_DIST_PORT": str(self.dist_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": NO_BUSY_WAIT,
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            # Without it the start script stays as a parent that traps signals.
            "RUNNING_UNDER_SYSTEMD": "1",
        }

    def start(self) -> None:
        self._write_config()
        super().start()

    def answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
                probe.sendall(b"AMQP\x00\x00\x09\x01")
                return probe.recv(1) == b"\x01"
        except OSError:
            return False

    def ctl(self, *args: str) -> str:
        """Run rabbitmqctl; its standard output. Raises CalledProcessError."""
        done = subprocess.run(
            [ensure_program("rabbitmqctl", "rabbitmq-server"), "-q", *args]
            if os.geteuid()
            else [str(Path(self._program).with_name("rabbitmqctl")), "-q", *args],
            env=self.environment(),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout

    def stop(self) -> None:
        super().stop()
        self._stop_epmd()

    def kill(self) -> None:
        super().kill()
        self._stop_epmd()

    def _stop_epmd(self) -> None:
        # epmd puts itself into the background and outlives the node.
        for entry in Path("/proc").glob("[0-9]*/environ"):
            try:
                if f"ERL_EPMD_PORT={self.epmd_port}\0".encode() in entry.read_bytes():
                    os.kill(int(entry.parent.name), 9)
            except (OSError, ProcessLookupError):
                continue

    def _write_config(self) -> None:
        tls = self.certificates
        settings = {
            "listeners.tcp.1": f"127.0.0.1:{self.port}",
            "listeners.ssl.1": f"127.0.0.1:{self.tls_port}",
            "ssl_options.cacertfile": str(tls.ca),
            "ssl_options.certfile": str(tls.server_certificate),
            "ssl_options.keyfile": str(tls.server_key),
            "ssl_options.verify": "verify_peer",
            "ssl_options.fail_if_no_peer_cert": "false",
            "disk_free_limit.absolute": "50MB",
            "log.file.level": "warning",
            **self.config,
        }
        lines = [f"{key} = {value}" for key, value in settings.items()]
        (self.folder / "rabbitmq.conf").write_text("\n".join(lines) + "\n")
        (self.folder / "enabled_plugins").write_text("[].\n")
