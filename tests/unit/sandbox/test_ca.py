"""The sandbox's certificate authority, from a TLS client's side."""

from __future__ import annotations

import socket
import ssl
import threading

import pytest

from daybook_sandbox import ca

HOST = "123456789012.dkr.ecr.us-east-1.amazonaws.com"


def shake_hands(trusted, certificate, key, name: str) -> None:
    """Connect a TLS client to a server; raise ssl.SSLError if the client does not trust it."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate, key)
    client = ssl.create_default_context(cafile=trusted)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    client_end, server_end = socket.socketpair()
    thread = threading.Thread(target=_answer, args=[server, server_end])
    thread.start()
    try:
        client.wrap_socket(client_end, server_hostname=name).close()
    finally:
        client_end.close()
        thread.join()


def _answer(context: ssl.SSLContext, connection: socket.socket) -> None:
    try:
        context.wrap_socket(connection, server_side=True).close()
    except (ssl.SSLError, OSError):
        connection.close()


def test_certificate_is_valid_only_for_its_host(tmp_path):
    trusted = ca.ensure_ca(tmp_path)
    certificate, key = ca.issue(tmp_path, HOST)
    shake_hands(trusted, certificate, key, HOST)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(trusted, certificate, key, "registry.example.com")


def test_another_authority_is_not_trusted(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    ca.ensure_ca(tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(ca.ensure_ca(other), *ca.issue(tmp_path, HOST), HOST)


def test_authority_is_kept_and_keys_are_private(tmp_path):
    before = ca.ensure_ca(tmp_path).read_bytes()
    _, key = ca.issue(tmp_path, HOST)
    assert ca.ensure_ca(tmp_path).read_bytes() == before
    assert {file.stat().st_mode & 0o777 for file in (key, tmp_path / "ca.key")} == {0o600}
