"""Signatures made by ssh-keygen are checked with the same result as by ssh-keygen."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from daybook import signers
from daybook.record import signing

DATA = b"a record\n"


def keygen(*args: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["ssh-keygen", *map(str, args)], input=stdin, capture_output=True)


@pytest.fixture(params=["ed25519", "ecdsa", "rsa"])
def any_key(request, tmp_path) -> Path:
    path = tmp_path / request.param
    assert keygen("-q", "-t", request.param, "-N", "", "-f", path).returncode == 0
    return path


def allow(key: Path, options: str = 'namespaces="daybook-record"') -> signers.Signers:
    line = f"# the team\nann@x {options} {signing.public_key(key)} comment\n"
    return signers.parse(line, "signers")


def test_daybook_and_ssh_keygen_accept_a_signature(any_key, tmp_path):
    allowed = allow(any_key)
    signature, problem = signing.sign(DATA, any_key, signing.RECORD)
    assert problem == ""
    signer = signing.check(DATA, signature, allowed, signing.RECORD)
    assert (signer.name, signer.is_good) == ("ann@x", True)
    assert signer.fingerprint in keygen("-l", "-f", any_key).stdout.decode()
    file, own = tmp_path / "sig", tmp_path / "signers"
    file.write_text(signature)
    own.write_text(f'ann@x namespaces="daybook-record" {allowed.lines[0].key}\n')
    verify = ("-Y", "verify", "-f", own, "-I", "ann@x", "-n", signing.RECORD, "-s", file)
    assert keygen(*verify, stdin=DATA).returncode == 0


def test_changed_data_another_namespace_and_an_unknown_key(any_key):
    allowed = allow(any_key, 'namespaces="daybook-record,daybook-rehearsal"')
    signature, _ = signing.sign(DATA, any_key, signing.RECORD)
    assert not signing.check(DATA + b"x", signature, allowed, signing.RECORD).is_good
    assert not signing.check(DATA, signature, allowed, signing.REHEARSAL).is_good
    unknown = signing.check(DATA, signature, signers.Signers(), signing.RECORD)
    assert (unknown.name, unknown.is_good) == ("", True)
    assert unknown.fingerprint == signing.fingerprint(signing.public_key(any_key))


@pytest.mark.attack("F3", "a key signs whose line has no namespaces, or others")
@pytest.mark.parametrize("options", ["", 'namespaces="file"', 'namespaces="daybook-approval"'])
def test_a_key_signs_only_in_the_namespaces_of_its_line(any_key, options):
    signature, _ = signing.sign(DATA, any_key, signing.RECORD)
    signer = signing.check(DATA, signature, allow(any_key, options), signing.RECORD)
    assert (signer.name, signer.is_good) == ("", True)


@pytest.mark.parametrize("signature", ["", "garbage", "-----BEGIN SSH SIGNATURE-----\nU1NIU0lH\n"])
def test_an_invalid_signature_is_not_good(signature):
    assert not signing.check(DATA, signature, signers.Signers(), signing.RECORD).is_good


def test_a_signer_is_accepted_until_the_end_of_validity(any_key):
    allowed = allow(any_key, 'namespaces="daybook-record",valid-before="20260101"')
    signature, _ = signing.sign(DATA, any_key, signing.RECORD)
    before, after = datetime(2025, 6, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC)
    names = [
        signing.check(DATA, signature, allowed, signing.RECORD, when).name
        for when in (before, after, None)
    ]
    assert names == ["ann@x", "", ""]


def test_a_missing_and_a_locked_key_give_the_reason(tmp_path):
    assert signing.sign(DATA, tmp_path / "none", signing.RECORD) == (
        "",
        "SSH key none does not exist",
    )
    locked = tmp_path / "locked"
    keygen("-q", "-t", "ed25519", "-N", "a long passphrase", "-f", locked)
    signature, problem = signing.sign(DATA, locked, signing.RECORD)
    assert (signature, bool(problem)) == ("", True)


def test_a_private_key_that_only_the_agent_has_signs(key, tmp_path, monkeypatch):
    socket = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        while subprocess.run(["ssh-add", "-q", key], capture_output=True).returncode == 2:
            assert agent.poll() is None
        public = tmp_path / "alone.pub"
        public.write_text(key.with_name("key.pub").read_text())
        allowed = allow(key)
        signature, problem = signing.sign(DATA, tmp_path / "alone", signing.RECORD)
        assert problem == ""
        assert signing.check(DATA, signature, allowed, signing.RECORD).name == "ann@x"
    finally:
        agent.terminate()
        agent.wait()
