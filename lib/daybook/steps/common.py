"""What several steps ask of an environment: its names, its keys, its files, its secrets."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from daybook import checks, signers
from daybook.hosts import ssh_keys
from daybook.settings import Settings
from daybook.steps.base import Step
from daybook.target import Target, ssh_key

BOOTSTRAP_FIRST = "daybook run bootstrap -p env {env}"
MAKE_SETUP = "make setup"


class Place(Protocol):
    """An environment and where it is: a step, or the command that exports its variables."""

    env: str
    root: Path
    settings: Settings
    target: Target


def prefix(place: Place) -> str:
    """Return what every name in AWS begins with."""
    return f"{place.settings.app}-{place.env}"


def context(step: Step) -> dict[str, str]:
    """Return what a plan's digest is bound to besides its changes."""
    target = step.target
    return {"account": target.account, "region": target.region, "target": target.name}


def team_keys(place: Place) -> list[str]:
    """Return the keys that hosts let in: those of environments/signers and the operator's own."""
    own = public_key(place).read_text(encoding="utf-8")
    hosts = f"{place.settings.app}-{place.env}"
    return ssh_keys.keys_for_hosts(own, ssh_keys.public_keys(signers.load(place.root), hosts))


def public_key(place: Place) -> Path:
    """Return the public half, which lies beside the private key."""
    key = ssh_key(place.settings, place.target)
    return key.with_name(key.name + ".pub")


def inventory_path(place: Place) -> Path:
    """Return where the inventory is written; a rehearsal leaves the real one alone."""
    is_real = place.settings.account in ("sandbox", place.target.account)
    name = place.env if is_real else f"rehearsal-{place.env}"
    return place.root / "ansible" / "inventories" / name


def known_hosts_path(place: Place) -> Path:
    """Return the hosts' SSH keys, beside the inventory."""
    inventory = inventory_path(place)
    return inventory.with_name(f"{inventory.name}.known_hosts")


def secrets_are_set(step: Step) -> checks.Check:
    """Ask whether every secret that the settings declare has a value, and no other has."""
    return checks.secrets_are_set(step.target, step.env, step.settings)


def engine_answers(step: Step) -> checks.Check:
    """Ask the Docker engine that images are built with."""
    command = ("docker", "version", "--format", "{{.Server.Version}}")
    fix = "start Docker, or add yourself to the docker group"
    return checks.tool_version(
        command, step.target.environ, fix, at_least=(20, 10), start=step.run.start
    )
