"""The team's public SSH keys: who logs in to the hosts besides the operator."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

# ann@example.com[,…] [options] type base64: man ssh-keygen, ALLOWED SIGNERS
_LINE = re.compile(r"([^#\s]\S*)\s+(.*?)((?:ssh|ecdsa|sk)-\S+)\s+([A-Za-z0-9+/]+=*)")
_UNTIL = re.compile(r'valid-before="?(\d{8})')
_EC2_TAKES = ("ssh-ed25519 ", "ssh-rsa ")


def public_keys(signers: Path) -> tuple[str, ...]:
    """Return the keys of a signers file as authorized_keys has them: `("ssh-ed25519 AAAA… ann",)`.

    Certificate authorities and those whose time is over are left out.
    """
    if not signers.exists():
        return ()
    found = map(_LINE.match, signers.read_text(encoding="utf-8").splitlines())
    today = f"{datetime.now(UTC):%Y%m%d}"
    return tuple(
        f"{kind} {key} {who}"
        for who, options, kind, key in (line.groups() for line in found if line)
        if "cert-authority" not in options and not _is_over(options, today)
    )


def keys_for_hosts(own: str, team: tuple[str, ...]) -> list[str]:
    """Return all keys, each once; the first is one that EC2 takes for a key pair.

    The order is the same whoever of the team asks, so that nobody's plan replaces the key pair.
    """
    keys: dict[str, str] = {}
    for key in filter(None, (*team, own.strip())):
        keys.setdefault(" ".join(key.split()[:2]), key)
    return sorted(keys.values(), key=lambda key: not key.startswith(_EC2_TAKES))


def _is_over(options: str, today: str) -> bool:
    until = _UNTIL.search(options)
    return bool(until) and until[1] <= today
