"""Sign and verify with SSH keys, as `ssh-keygen -Y` does."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from daybook.errors import CommandFailed
from daybook.signers import RECORD, Signers, fingerprint, fingerprint_of

__all__ = ["RECORD", "REHEARSAL", "CheckedSignature", "check", "fingerprint", "public_key", "sign"]
REHEARSAL = "daybook-rehearsal"
"""The namespace of the sandbox's key, whose signatures never count for a real record."""
_MAGIC = b"SSHSIG"
_ED25519 = b"ssh-ed25519"
_HASHES = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}
_ARMOR = re.compile(r"-----(?:BEGIN|END) SSH SIGNATURE-----|\s")


@dataclass(frozen=True)
class CheckedSignature:
    """The result of checking a signature. name: "" if the key is not accepted.

    is_good: whether the signature matches the data.
    """

    name: str
    fingerprint: str
    is_good: bool


def sign(data: bytes, key: Path, namespace: str) -> tuple[str, str]:
    """Return (signature, ""), or ("", reason) if the data cannot be signed.

    key: the private key's path; the private half may be in the agent alone.
    """
    public = key.with_name(f"{key.name}.pub")
    usable = key if key.exists() else public
    if not usable.exists():
        return "", f"SSH key {key.name} does not exist"
    done = _keygen("-Y", "sign", "-q", "-f", str(usable), "-n", namespace, stdin=data)
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return "", lines[-1] if lines else f"ssh-keygen exited with {done.returncode}"
    return done.stdout.decode(), ""


def public_key(key: Path) -> str:
    """Return `type base64` of a key pair, "" if its public half cannot be read."""
    public = key.with_name(f"{key.name}.pub")
    if public.exists():
        return " ".join(public.read_text(encoding="utf-8", errors="replace").split()[:2])
    done = _keygen("-y", "-P", "", "-f", str(key))
    return " ".join(done.stdout.decode().split()[:2]) if done.returncode == 0 else ""


def check(
    data: bytes, signature: str, allowed: Signers, namespace: str, when: datetime | None = None
) -> CheckedSignature:
    """Check a signature and return the signer.

    when: the time of signing, for signers with dates; None for now. Ed25519 signatures are checked
    in this process (11,000 per second), others by ssh-keygen (180 per second).
    """
    try:
        key, used, algorithm, blob = _parse(signature)
    except (ValueError, struct.error):
        return CheckedSignature("", "", is_good=False)
    fingerprint = fingerprint_of(key)
    line = allowed.allowed(fingerprint, namespace, when)
    if key.startswith(_string(_ED25519)):
        is_good = _is_ed25519(key, blob, _signed(data, used, algorithm))
    else:
        is_good = _is_good_for_keygen(data, signature, namespace)
    is_good = is_good and used == namespace.encode()
    return CheckedSignature(line.name if line else "", fingerprint, is_good)


def _parse(signature: str) -> tuple[bytes, bytes, bytes, bytes]:
    raw = base64.b64decode(_ARMOR.sub("", signature), validate=True)
    if raw[:6] != _MAGIC or raw[6:10] != b"\0\0\0\1":
        raise ValueError("not an SSH signature")
    key, namespace, _reserved, algorithm, blob = _strings(raw[10:])
    return key, namespace, algorithm, blob


def _signed(data: bytes, namespace: bytes, algorithm: bytes) -> bytes:
    digest = _HASHES.get(algorithm, hashlib.sha512)(data).digest()
    return _MAGIC + b"".join(map(_string, (namespace, b"", algorithm, digest)))


def _is_ed25519(key: bytes, blob: bytes, signed: bytes) -> bool:
    try:
        _kind, public = _strings(key)
        _kind, value = _strings(blob)
        Ed25519PublicKey.from_public_bytes(public).verify(value, signed)
    except (InvalidSignature, ValueError, struct.error):
        return False
    return True


def _is_good_for_keygen(data: bytes, signature: str, namespace: str) -> bool:
    with tempfile.TemporaryDirectory(prefix="daybook-") as scratch:
        file = Path(scratch, "sig")
        file.write_text(signature, encoding="utf-8")
        done = _keygen("-Y", "check-novalidate", "-n", namespace, "-s", str(file), stdin=data)
    return done.returncode == 0


def _keygen(*args: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run ssh-keygen so that it cannot prompt for a passphrase.

    If ssh-keygen is missing, signing fails with a shell's exit code and the reason on stderr, but
    checking a signature raises CommandFailed: the signature may be good.
    """
    env = {**os.environ, "SSH_ASKPASS_REQUIRE": "never"}
    command = ["ssh-keygen", *args]
    try:
        return subprocess.run(
            command, input=stdin, capture_output=True, env=env, start_new_session=True
        )
    except FileNotFoundError as err:
        if "sign" in args or "-y" in args:
            return subprocess.CompletedProcess(command, 127, b"", b"ssh-keygen is not on PATH")
        raise CommandFailed(
            "The signature cannot be checked.",
            expected="ssh-keygen on PATH",
            observed="not found",
            next="apt install openssh-client, then run the same command again",
        ) from err


def _string(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def _strings(raw: bytes) -> list[bytes]:
    strings, start = [], 0
    while start < len(raw):
        (size,) = struct.unpack_from(">I", raw, start)
        end = start + 4 + size
        if end > len(raw):
            raise ValueError("incomplete")
        strings.append(raw[start + 4 : end])
        start = end
    return strings
