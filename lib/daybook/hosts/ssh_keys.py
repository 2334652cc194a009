"""The public SSH keys that may log in to the hosts: the team's and the operator's."""

from __future__ import annotations

from datetime import UTC, datetime

from daybook.signers import WORKFLOWS, Signers

_EC2_KEY_TYPES = ("ssh-ed25519 ", "ssh-rsa ")


def public_keys(signers: Signers, hosts: str) -> tuple[str, ...]:
    """Return the currently valid keys as lines of authorized_keys: `("ssh-rsa AAAA ann",)`.

    hosts: the prefix of the hosts' names, `hello-staging`. The key of a workflow may log in only to
    the hosts of its own environment.
    """
    now = datetime.now(UTC)
    return tuple(
        f"{signer.key} {signer.name}"
        for signer in signers.lines
        if signer.is_valid_at(now)
        and (not signer.is_workflow or signer.name == f"{hosts}{WORKFLOWS}")
    )


def keys_for_hosts(own: str, team: tuple[str, ...]) -> list[str]:
    """Return all keys without duplicates; the first has a type that EC2 accepts for a key pair.

    The order does not depend on the operator, so that no plan replaces the key pair.
    """
    keys: dict[str, str] = {}
    for key in filter(None, (*team, own.strip())):
        keys.setdefault(" ".join(key.split()[:2]), key)
    return sorted(keys.values(), key=lambda key: not key.startswith(_EC2_KEY_TYPES))
