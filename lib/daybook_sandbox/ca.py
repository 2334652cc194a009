"""The sandbox's certificate authority, trusted by its machines, its workstation and Daybook."""

from __future__ import annotations

import os
from collections.abc import Sequence, Set
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NAME = "Daybook sandbox"
VALID_FOR = timedelta(days=365)
BACKDATED = timedelta(days=1)
PUBLIC_FOR = timedelta(days=90)  # Let's Encrypt's lifetime


def ensure_ca(folder: Path) -> Path:
    """Create ca.pem and ca.key in a folder if they are missing; return ca.pem."""
    if not (folder / "ca.pem").exists():
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
        certificate = (
            _builder(subject, subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        _write_key(folder / "ca.key", key)
        (folder / "ca.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    return folder / "ca.pem"


def issue(folder: Path, *hosts: str) -> tuple[Path, Path]:
    """Issue a server certificate for host names; return the certificate file and the key file.

    The file holds no chain: clients have ca.pem.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    certificate_file, key_file = folder / f"{hosts[0]}.pem", folder / f"{hosts[0]}.key"
    _write_key(key_file, key)
    certificate_file.write_bytes(_certificate(folder, key.public_key(), hosts, VALID_FOR))
    return certificate_file, key_file


def certify(folder: Path, csr: x509.CertificateSigningRequest, names: Set[str]) -> str:
    """Issue the certificate of a CSR in PEM; raise ValueError unless it is for these names."""
    asked = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    if not csr.is_signature_valid:
        raise ValueError("The request's signature is invalid.")
    if set(asked.get_values_for_type(x509.DNSName)) != names:
        raise ValueError("The request's names are not those of the order.")
    return _certificate(folder, csr.public_key(), sorted(names), PUBLIC_FOR).decode()


def _certificate(
    folder: Path, key: CertificatePublicKeyTypes, hosts: Sequence[str], valid_for: timedelta
) -> bytes:
    ca = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    ca_key = load_pem_private_key((folder / "ca.key").read_bytes(), None)
    names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
    # The subject stays empty: a common name is limited to 64 characters, host names are not.
    certificate = (
        _builder(x509.Name([]), ca.subject, key, valid_for)
        .add_extension(names, critical=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    return certificate.public_bytes(Encoding.PEM)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: CertificatePublicKeyTypes,
    valid_for: timedelta = VALID_FOR,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + valid_for)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _write_key(file: Path, key: ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as out:
        out.write(pem)
