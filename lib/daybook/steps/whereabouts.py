"""The hosts' addresses and SSH keys: kept beside the state, so that any checkout knows them."""

from __future__ import annotations

from daybook import aws, checks, inventory
from daybook.step import Step
from daybook.steps import common, infrastructure

MISSING = "missing"


def write(step: Step, known_hosts: str) -> None:
    """Write the inventory and its known_hosts from Terraform's outputs."""
    known = common.known_hosts_path(step)
    known.write_text(known_hosts, encoding="utf-8")
    rendered = inventory.render(infrastructure.hidden_outputs(step), known)
    common.inventory_path(step).write_text(rendered, encoding="utf-8")


def keep(step: Step) -> None:
    """Put the hosts' SSH keys beside the state: a console shows them at the first boot only."""
    bucket, key = _place(step)
    text = common.known_hosts_path(step).read_text(encoding="utf-8")
    aws.client(step.target, "s3").put_object(Bucket=bucket, Key=key, Body=text.encode())


def forget(step: Step) -> None:
    """Remove what was kept: the hosts are gone."""
    bucket, key = _place(step)
    aws.client(step.target, "s3").delete_object(Bucket=bucket, Key=key)


def are_known(step: Step) -> checks.Question:
    """Ask for the inventory; where this checkout has none, take it from where the state is."""
    path = common.inventory_path(step)
    shown = str(path.relative_to(step.root))
    fix = f"daybook run provision -p env {step.env}"

    def question(name: str) -> checks.Check:
        if path.is_file():
            return checks.Check(name, shown, "there", is_ok=True)
        if not (kept := aws.state_text(step.target, *_place(step))):
            return checks.Check(name, shown, MISSING, is_ok=False, fix=fix)
        infrastructure.outputs(step)
        write(step, kept)
        return checks.Check(name, shown, "written from the state", is_ok=True)

    return question


def _place(step: Step) -> tuple[str, str]:
    bucket = aws.state_bucket(step.target, step.settings.app)
    return bucket, f"env:/{step.env}/environment/known_hosts"
