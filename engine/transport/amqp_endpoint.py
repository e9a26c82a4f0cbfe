"""Where an AMQP broker is and how to log in to it: one broker URL plus options, taken apart and checked.

Rules: TLS verifies the certificate and the host name unless told otherwise, and otherwise is said loudly;
no password is in any text made here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engine.errors import ConfigurationError
from engine.transport.base import TransportOptions
from engine.transport.url import BrokerURL, mask_url

if TYPE_CHECKING:  # imported where TLS is wanted
    import ssl

logger = logging.getLogger("engine.transport.amqp")

PORT = 5672
TLS_PORT = 5671
_NO_VERIFY = {"verify_none", "cert_none", "none", "0", "false"}
_VERIFY = {"verify_peer", "cert_required", "required", "cert_optional", "optional", "1", "2", "true"}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One broker and one login. Times in seconds."""

    host: str
    port: int
    vhost: str
    user: str
    password: str = field(repr=False)
    mechanism: str  #: PLAIN or EXTERNAL
    tls: ssl.SSLContext | None
    server_hostname: str
    heartbeat_s: float
    connect_timeout_s: float
    client_name: str

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def parse_endpoint(url: str, options: TransportOptions) -> Endpoint:
    """The endpoint of an ``amqp://`` or ``amqps://`` URL. Raises ConfigurationError.

    As in kombu, ``amqp://host``, ``amqp://host/`` and ``amqp://host//`` all mean the virtual host ``/``; the
    query may set ``heartbeat``, ``connect_timeout``, ``login_method``, ``name`` and the TLS options."""
    parts = BrokerURL.parse(url)
    query = parts.query
    tls_settings = _tls_settings(parts, options)
    mechanism = str(query.get("login_method") or options.extra.get("login_method") or "").upper()
    if not mechanism:
        anonymous = parts.user is None and tls_settings is not None and bool(tls_settings.get("certfile"))
        mechanism = "EXTERNAL" if anonymous else "PLAIN"
    if mechanism not in ("PLAIN", "EXTERNAL"):
        raise ConfigurationError(
            f"login_method {mechanism!r} in {mask_url(url)!r} is not known: use PLAIN, or EXTERNAL for a "
            "client certificate"
        )
    host = parts.host or "localhost"
    return Endpoint(
        host=host,
        port=parts.port or (TLS_PORT if tls_settings is not None else PORT),
        vhost=parts.path or "/",
        user=parts.user if parts.user is not None else "guest",
        password=parts.password if parts.password is not None else "guest",
        mechanism=mechanism,
        tls=_tls_context(tls_settings, host) if tls_settings is not None else None,
        server_hostname=str((tls_settings or {}).get("server_hostname") or host),
        heartbeat_s=_seconds(query, "heartbeat", options.heartbeat, url),
        connect_timeout_s=_seconds(query, "connect_timeout", options.connect_timeout, url),
        client_name=query.get("name") or options.client_name,
    )


def _seconds(query: Mapping[str, str], name: str, default: float, url: str) -> float:
    text = query.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 65536:
        raise ConfigurationError(
            f"{name}={text!r} in {mask_url(url)!r} is not a number of seconds from 0 to 65535"
        )
    return value


def _tls_settings(parts: BrokerURL, options: TransportOptions) -> dict[str, Any] | None:
    """The TLS options by their plain names (``ca_certs``, ``certfile``, ``keyfile``, ``cert_reqs``,
    ``check_hostname``, ``server_hostname``), or None for a plain connection."""
    settings: dict[str, Any] = {}
    wanted = parts.scheme == "amqps"
    if options.ssl is not None and isinstance(options.ssl, Mapping):
        wanted = True
        settings.update({name.removeprefix("ssl_"): value for name, value in options.ssl.items()})
    elif options.ssl:
        wanted = True
    names = {"cacertfile": "ca_certs", "verify": "cert_reqs"}
    for name, value in parts.query.items():
        plain = names.get(name, name.removeprefix("ssl_"))
        if plain in ("ca_certs", "certfile", "keyfile", "cert_reqs", "check_hostname", "server_hostname"):
            settings[plain] = value
            wanted = wanted or name.startswith("ssl_")
        elif name == "ssl":
            wanted = wanted or value.lower() not in ("0", "false", "no", "")
    return settings if wanted else None


def _tls_context(settings: Mapping[str, Any], host: str) -> ssl.SSLContext:
    import ssl

    given = settings.get("context")
    if isinstance(given, ssl.SSLContext):
        return given
    try:
        context = ssl.create_default_context(cafile=settings.get("ca_certs"))
        if settings.get("certfile"):
            context.load_cert_chain(settings["certfile"], settings.get("keyfile"), settings.get("password"))
    except OSError as error:  # SSLError is one
        raise ConfigurationError(
            f"cannot load the TLS files for {host}: {error}. Check ca_certs ({settings.get('ca_certs')!r}), "
            f"certfile ({settings.get('certfile')!r}) and keyfile ({settings.get('keyfile')!r})"
        ) from None
    check_hostname = str(settings.get("check_hostname", "true")).lower() not in ("false", "0", "no")
    if not _verifies(settings.get("cert_reqs")):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        logger.warning(
            "TLS to %s is NOT verified: anybody on the way can read and change what is sent, passwords "
            "included. Give the CA (ca_certs) instead of switching the check off.",
            host,
        )
    elif not check_hostname:
        context.check_hostname = False
        logger.warning(
            "TLS to %s accepts a certificate of ANY host that the CA signed (check_hostname is off).", host
        )
    return context


def _verifies(cert_reqs: object) -> bool:
    if cert_reqs is None:
        return True
    text = str(int(cert_reqs)) if isinstance(cert_reqs, int) else str(cert_reqs).lower()
    if text in _NO_VERIFY:
        return False
    if text in _VERIFY:
        return True
    raise ConfigurationError(f"cert_reqs {cert_reqs!r} is not known: use verify_peer or verify_none")
