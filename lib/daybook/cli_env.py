"""`daybook env`: the variables with which bare tools go where the notebooks go."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from daybook import settings, terraform
from daybook.errors import PreflightFailed
from daybook.settings import Settings
from daybook.steps import common
from daybook.target import Target, resolve, ssh_key


@dataclass(frozen=True)
class _Place:
    env: str
    root: Path
    settings: Settings
    target: Target


@click.group()
def env() -> None:
    """Lead bare terraform and ansible-playbook to an environment."""


@env.command()
@click.argument("name", metavar="ENV")
@click.option("--rehearse", is_flag=True, help="Lead to the sandbox, whatever the settings say.")
def export(name: str, rehearse: bool) -> None:
    """Print what a shell evaluates: eval "$(daybook env export staging)".

    Then `terraform workspace select ENV && terraform apply` in terraform/environment, and
    `ansible-playbook --private-key "$DAYBOOK_SSH_KEY" -i ansible/inventories/ENV ansible/ENV.yml`
    do what the notebooks do, without asking and without a record.
    """
    root = settings.find_root()
    chosen = settings.load(root, name)
    place = _Place(name, root, chosen, resolve(chosen, root, rehearse=rehearse))
    if not place.target.is_up:
        raise PreflightFailed("The sandbox is not up.", next="daybook sandbox up")
    for line in script(place.target.environ | terraform_variables(place), os.environ):
        click.echo(line)


def terraform_variables(place: common.Place) -> dict[str, str]:
    """Return what terraform/environment needs to know, for any command of Terraform's."""
    backend = [f"-backend-config={key}={value}" for key, value in common.backend(place).items()]
    return {
        **terraform.mirror_config(place.root),
        **terraform.variables_environment(common.environment_variables(place)),
        "TF_CLI_ARGS_init": " ".join(backend),
        "TF_DATA_DIR": str(common.data_dir(place, "environment", place.env)),
        "DAYBOOK_SSH_KEY": str(ssh_key(place.settings, place.target)),
    }


def script(wanted: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return the shell lines that make `now` into `wanted`; what is so already is left out."""
    gone = sorted(now.keys() - wanted.keys())
    new = sorted(name for name, value in wanted.items() if now.get(name) != value)
    return [f"unset {name}" for name in gone] + [
        f"export {name}={shlex.quote(wanted[name])}" for name in new
    ]
