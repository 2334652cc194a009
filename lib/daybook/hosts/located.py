"""The hosts' addresses and SSH keys: read anew from where the state is, for each use."""

from __future__ import annotations

import os
from pathlib import Path

from daybook import aws, checks, terraform
from daybook.errors import PreflightFailed
from daybook.hosts import inventory
from daybook.steps import common, infrastructure


def refresh(place: common.Place) -> Path:
    """Write the inventory and its known_hosts from the state; return the inventory.

    Whoever uses an inventory calls this first: a file of this checkout is a copy for people, and
    what somebody wrote into it has no effect. Raises PreflightFailed where there are no hosts.
    """
    found = terraform.outputs_in(aws.state_text(place.target, *infrastructure.state_of(place)))
    infrastructure.require_its_hosts(place, found)
    keys = kept(place)
    if not keys:
        raise PreflightFailed(
            f"The SSH keys of {place.env}'s hosts are not known.",
            expected="s3://{}/{}".format(*_place(place)),
            observed="no object",
            next=f"daybook run provision -p env {place.env}",
        )
    known_hosts = common.known_hosts_path(place)
    _replace(place, known_hosts, keys)
    _replace(place, common.inventory_path(place), inventory.render(found, known_hosts))
    return common.inventory_path(place)


def kept(place: common.Place) -> str:
    """Return the hosts' SSH keys as known_hosts has them; "" before the first provision."""
    return aws.state_text(place.target, *_place(place))


def keep(place: common.Place, known_hosts: str) -> None:
    """Put the hosts' SSH keys beside the state: a console shows them at the first boot only."""
    bucket, key = _place(place)
    aws.client(place.target, "s3").put_object(Bucket=bucket, Key=key, Body=known_hosts.encode())


def forget(place: common.Place) -> None:
    """Remove what was kept: the hosts are gone."""
    bucket, key = _place(place)
    aws.client(place.target, "s3").delete_object(Bucket=bucket, Key=key)


def are_known(place: common.Place) -> checks.Check:
    """Ask where the hosts are, and write the inventory."""

    def question(name: str) -> checks.CheckResult:
        shown = str(refresh(place).relative_to(place.root))
        return checks.CheckResult(name, shown, "written from the state", is_ok=True)

    return question


def _replace(place: common.Place, path: Path, text: str) -> None:
    """Write a file at once: another run of this checkout may read it now."""
    new = place.root / ".cache" / f"{path.name}.{os.getpid()}"
    for folder in (new.parent, path.parent):
        folder.mkdir(parents=True, exist_ok=True)
    new.write_text(text, encoding="utf-8")
    new.replace(path)


def _place(place: common.Place) -> tuple[str, str]:
    bucket = aws.state_bucket(place.target, place.settings.app)
    return bucket, f"env:/{place.env}/environment/known_hosts"
