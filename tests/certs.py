"""Certificates of every sort for tests, made with `cryptography` (which the agent itself never imports)."""

import datetime
import ipaddress
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)
NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)


class Issued(NamedTuple):
    """A certificate with its key, and its chain up to, without, the root."""

    cert: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    above: tuple[x509.Certificate, ...] = ()

    @property
    def der(self) -> bytes:
        return self.cert.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> bytes:
        return b"".join(c.public_bytes(serialization.Encoding.PEM) for c in (self.cert, *self.above))

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Writes name.pem (chain) and name.key (private), and returns their paths."""
        cert, key = folder / f"{name}.pem", folder / f"{name}.key"
        cert.write_bytes(self.pem)
        key.touch(mode=0o600)
        key.write_bytes(self.key_pem)
        return cert, key


def issue(
    name: str,
    by: Issued | None = None,
    *,
    names: tuple[str, ...] = (),
    ca: bool = False,
    begins: datetime.timedelta = -DAY,
    ends: datetime.timedelta = 90 * DAY,
) -> Issued:
    """A certificate with CN `name`, signed by `by` or by itself; `begins` and `ends` count from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Kominfo"), x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(by.cert.subject if by else subject).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(NOW + begins).not_valid_after(NOW + ends)
    builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(map(_general, names))), critical=False)
    cert = builder.sign(by.key if by else key, hashes.SHA256())
    inner = by is not None and by.cert.issuer != by.cert.subject
    return Issued(cert, key, (by.cert, *by.above) if by and inner else ())


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
