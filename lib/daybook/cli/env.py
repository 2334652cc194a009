"""`daybook env`: check settings, create an environment, export variables for bare tools."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

import click

from daybook import infrastructure, preconditions, settings, settings_sources, terraform, ui
from daybook.cli import arguments
from daybook.environment import Environment
from daybook.errors import SettingsError
from daybook.settings import scaffold

_PREFIXES = ("ANSIBLE_", "AWS_", "TF_")
"""Variables that select a bare tool's target: those that no step sets are unset."""


@click.group()
def env() -> None:
    """Check an environment's settings, create an environment, or export its variables."""


@env.command()
@click.argument("name", metavar="[ENV]", type=arguments.ENV, required=False)
def check(name: str | None) -> None:
    """Print the settings of ENV, or of every environment, and the source of each value.

    Invalid settings: exit code 2, with every mistake and its line.
    """
    root = settings.find_root()
    names = [name] if name else settings.environments(root)
    if not names:
        raise SettingsError(
            "The project has no environments.",
            expected="a file in environments/",
            next="restore environments/staging.yml",
        )
    problems = []
    for env_name in names:
        try:
            problems += _check(root, env_name)
        except SettingsError as err:
            problems += [err.message, *err.details]
    if problems:
        raise SettingsError(
            "The settings are invalid.", details=problems, next="correct the problems above"
        )


@env.command()
@click.argument("name")
@click.option("--from", "source", default="staging", show_default=True, metavar="ENV")
def new(name: str, source: str) -> None:
    """Create the environment NAME as a copy of another one, with its own network."""
    root = settings.find_root()
    made = scaffold.files(root, name, source)
    for path, text in made.items():
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    problems = _check(root, name)
    if problems:
        raise SettingsError(
            f"The settings of {name} need a correction.",
            details=problems,
            changed="Its files were written.",
            next=f"correct environments/{name}.yml, then: daybook env check {name}",
        )
    lines = [f"Written: {path.relative_to(root)}" for path in made]
    if names := settings.load(root, name).secrets:
        lines.append(f"Then: daybook secrets set NAME -e {name}, for {', '.join(names)}")
    lines.append(f"Next: read environments/{name}.yml, then daybook run bootstrap -p env {name}")
    click.echo(ui.text(ui.Notice(f"{name}, copied from {source}", ui.good("new"), lines)))


@env.command()
@click.argument("name", metavar="ENV")
@click.option("--rehearse", is_flag=True, help="Export the variables of the sandbox.")
def export(name: str, rehearse: bool) -> None:
    """Print shell commands for bare tools: eval "$(daybook env export staging)".

    After that, `terraform workspace select ENV && terraform apply` in terraform/environment, and
    `ansible-playbook --private-key "$DAYBOOK_SSH_KEY" -i ansible/inventories/ENV ansible/ENV.yml`
    make the same changes as the notebooks, without an approval and without a record.
    """
    environment = Environment.load(settings.find_root(), name, rehearse=rehearse)
    environment.target.require_up()
    for line in script(environment.target.environ | terraform_variables(environment), os.environ):
        click.echo(line)


def _check(root: Path, name: str) -> list[str]:
    """Print an environment's settings; return the problems that loading does not find."""
    environment = Environment.load(root, name)
    comparisons = (preconditions.names_are_unique, preconditions.repositories_match)
    results = [check(environment)(name) for check in comparisons]
    problems = [
        f"{name}: {result.observed}; {result.fix}" for result in results if not result.is_ok
    ]
    if not (root / "ansible" / f"{name}.yml").is_file():
        problems.append(f"{name}: ansible/{name}.yml is missing")
    resolved = settings_sources.resolve(environment)
    rows = [(setting.key, setting.value, setting.origin) for setting in resolved]
    status = ui.FAILED if problems else ui.good("valid")
    title = f"{name} · {environment.target.title}: " + ("not valid" if problems else "valid")
    click.echo(ui.text(ui.Table(title, ("setting", "value", "from"), rows, status)))
    return problems


def terraform_variables(environment: Environment) -> dict[str, str]:
    """Return the variables of every Terraform command in terraform/environment."""
    backend = [f"-backend-config={key}={value}" for key, value in environment.backend.items()]
    variables = infrastructure.variables(environment)
    return {
        **terraform.mirror_config(environment.root),
        **terraform.variables_environment(variables),
        "TF_CLI_ARGS_init": " ".join(backend),
        "TF_DATA_DIR": str(environment.terraform_data_dir()),
        "DAYBOOK_SSH_KEY": str(environment.ssh_key),
    }


def script(wanted: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return the shell commands that change the variables `now` to `wanted`.

    Of the other variables, only those with a prefix of a tool are unset.
    """
    unset = sorted(name for name in now.keys() - wanted.keys() if name.startswith(_PREFIXES))
    changed = sorted(name for name, value in wanted.items() if now.get(name) != value)
    return [f"unset {name}" for name in unset] + [
        f"export {name}={shlex.quote(wanted[name])}" for name in changed
    ]
