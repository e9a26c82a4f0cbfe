"""A throw-away certificate authority with a server and a client certificate, for tests of TLS."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


class Certificates:
    """Files in one folder: ``ca``; ``server_certificate`` and ``server_key`` for localhost and 127.0.0.1;
    ``other_host_certificate`` and its key, of the same authority, for another host; and a client pair."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = folder / "ca.pem"
        self.server_certificate, self.server_key = folder / "server.pem", folder / "server.key"
        self.other_host_certificate, self.other_host_key = folder / "other.pem", folder / "other.key"
        self.client_certificate, self.client_key = folder / "client.pem", folder / "client.key"
        if not self.client_certificate.exists():
            folder.mkdir(parents=True, exist_ok=True)
            self._make()

    def _make(self) -> None:
        ca_key = ec.generate_private_key(ec.SECP256R1())
        ca_name = _name("engine test authority")
        ca = (
            _builder(ca_name, ca_name, ca_key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(
                x509.KeyUsage(True, False, False, False, False, True, True, False, False), critical=True
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
            .sign(ca_key, hashes.SHA256())
        )
        self.ca.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
        local: list[x509.GeneralName] = [
            x509.DNSName("localhost"),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        ]
        other: list[x509.GeneralName] = [x509.DNSName("other.example")]
        for certificate, key_file, host_names in (
            (self.server_certificate, self.server_key, local),
            (self.other_host_certificate, self.other_host_key, other),
            (self.client_certificate, self.client_key, [x509.DNSName("client.example")]),
        ):
            key = ec.generate_private_key(ec.SECP256R1())
            usage = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            signed = (
                _builder(_name(key_file.stem), ca_name, key)
                .add_extension(x509.SubjectAlternativeName(host_names), critical=False)
                .add_extension(x509.ExtendedKeyUsage(usage), critical=False)
                # Python 3.13 and newer insist on it (ssl.VERIFY_X509_STRICT)
                .add_extension(
                    x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
                )
                .sign(ca_key, hashes.SHA256())
            )
            _write_key(key_file, key)
            certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=3650))
    )


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.touch(mode=0o600)
    path.write_bytes(pem)
