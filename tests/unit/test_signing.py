"""Signatures: made by ssh-keygen, checked here and by ssh-keygen with the same answers."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from daybook.record import signing

DATA = b"a record\n"


def keygen(*args: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["ssh-keygen", *map(str, args)], input=stdin, capture_output=True)


@pytest.fixture(params=["ed25519", "ecdsa", "rsa"])
def any_key(request, tmp_path) -> Path:
    path = tmp_path / request.param
    assert keygen("-q", "-t", request.param, "-N", "", "-f", path).returncode == 0
    return path


@pytest.fixture
def signers(tmp_path) -> Path:
    return tmp_path / "signers"


def allow(signers: Path, key: Path, options: str = 'namespaces="daybook-record"') -> None:
    signers.write_text(f"# the team\nann@x {options} {signing.public_key(key)} comment\n")


def test_a_signature_is_known_to_us_and_to_ssh_keygen(any_key, signers, tmp_path):
    allow(signers, any_key)
    signature, why = signing.sign(DATA, any_key, signing.RECORD)
    assert why == ""
    found = signing.check(DATA, signature, signers, signing.RECORD)
    assert (found.name, found.is_good) == ("ann@x", True)
    assert found.fingerprint in keygen("-l", "-f", any_key).stdout.decode()
    file = tmp_path / "sig"
    file.write_text(signature)
    verify = ("-Y", "verify", "-f", signers, "-I", "ann@x", "-n", signing.RECORD, "-s", file)
    assert keygen(*verify, stdin=DATA).returncode == 0


def test_changed_bytes_another_namespace_and_a_stranger(any_key, signers):
    allow(signers, any_key)
    signature, _ = signing.sign(DATA, any_key, signing.RECORD)
    assert not signing.check(DATA + b"x", signature, signers, signing.RECORD).is_good
    assert not signing.check(DATA, signature, signers, signing.REHEARSAL).is_good
    signers.write_text("")
    stranger = signing.check(DATA, signature, signers, signing.RECORD)
    assert (stranger.name, stranger.is_good) == ("", True)
    assert stranger.fingerprint == signing.fingerprint(signing.public_key(any_key))


@pytest.mark.parametrize("signature", ["", "garbage", "-----BEGIN SSH SIGNATURE-----\nU1NIU0lH\n"])
def test_what_is_no_signature(signature, signers):
    assert not signing.check(DATA, signature, signers, signing.RECORD).is_good


def test_a_signer_who_had_left_by_then(key, signers):
    allow(signers, key, 'valid-before="20260101"')
    signature, _ = signing.sign(DATA, key, signing.RECORD)
    while_here = signing.check(DATA, signature, signers, signing.RECORD, when="20250601000000Z")
    after = signing.check(DATA, signature, signers, signing.RECORD, when="20260601000000Z")
    assert (while_here.name, after.name) == ("ann@x", "")


def test_no_key_and_a_locked_key_say_why(tmp_path):
    assert signing.sign(DATA, tmp_path / "none", signing.RECORD) == ("", "there is no SSH key none")
    locked = tmp_path / "locked"
    keygen("-q", "-t", "ed25519", "-N", "a long passphrase", "-f", locked)
    signature, why = signing.sign(DATA, locked, signing.RECORD)
    assert (signature, bool(why)) == ("", True)


def test_a_key_that_only_the_agent_has(key, signers, tmp_path, monkeypatch):
    socket = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        while subprocess.run(["ssh-add", "-q", key], capture_output=True).returncode == 2:
            assert agent.poll() is None
        public = tmp_path / "alone.pub"
        public.write_text(key.with_name("key.pub").read_text())
        allow(signers, key)
        signature, why = signing.sign(DATA, tmp_path / "alone", signing.RECORD)
        assert why == ""
        assert signing.check(DATA, signature, signers, signing.RECORD).name == "ann@x"
    finally:
        agent.terminate()
        agent.wait()
