"""The team's public SSH keys: who logs in to the hosts besides the operator."""

from __future__ import annotations

from datetime import UTC, datetime

from daybook.signers import WORKFLOWS, Signers

_EC2_TAKES = ("ssh-ed25519 ", "ssh-rsa ")


def public_keys(signers: Signers, hosts: str) -> tuple[str, ...]:
    """Return the keys that are valid now, as authorized_keys has them: `("ssh-rsa AAAA ann",)`.

    hosts: what the hosts' names begin with, `hello-staging`. A key of workflows is let in by the
    hosts of its own environment alone.
    """
    now = datetime.now(UTC)
    return tuple(
        f"{each.key} {each.name}"
        for each in signers.lines
        if each.is_valid_at(now) and (not each.is_workflow or each.name == f"{hosts}{WORKFLOWS}")
    )


def keys_for_hosts(own: str, team: tuple[str, ...]) -> list[str]:
    """Return all keys, each once; the first is one that EC2 takes for a key pair.

    The order is the same whoever of the team asks, so that nobody's plan replaces the key pair.
    """
    keys: dict[str, str] = {}
    for key in filter(None, (*team, own.strip())):
        keys.setdefault(" ".join(key.split()[:2]), key)
    return sorted(keys.values(), key=lambda key: not key.startswith(_EC2_TAKES))
