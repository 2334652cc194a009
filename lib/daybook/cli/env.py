"""`daybook env`: what an environment is, a further one, and the way there for bare tools."""

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

_LEADING = ("ANSIBLE_", "AWS_", "TF_")
"""Variables that lead a bare tool: those that no step would give it are unset."""


@click.group()
def env() -> None:
    """Check an environment's settings, make a further one, or lead bare tools to one."""


@env.command()
@click.argument("name", metavar="[ENV]", type=arguments.ENV, required=False)
def check(name: str | None) -> None:
    """Print the settings of ENV, or of every environment, and where each comes from.

    Exit code 2 when they cannot be used, with every mistake and its line.
    """
    root = settings.find_root()
    names = [name] if name else settings.environments(root)
    if not names:
        raise SettingsError(
            "There are no environments.",
            expected="a file in environments/",
            next="restore environments/staging.yml",
        )
    wrong = []
    for one in names:
        try:
            wrong += _check(root, one)
        except SettingsError as err:
            wrong += [err.message, *err.details]
    if wrong:
        raise SettingsError("The settings cannot be used.", details=wrong, next="correct the above")


@env.command()
@click.argument("name")
@click.option("--from", "source", default="staging", show_default=True, metavar="ENV")
def new(name: str, source: str) -> None:
    """Make the environment NAME after the pattern of another, in a network of its own."""
    root = settings.find_root()
    made = scaffold.files(root, name, source)
    for path, text in made.items():
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    wrong = _check(root, name)
    if wrong:
        raise SettingsError(
            f"{name} needs your hand.", details=wrong, changed="Its files are there."
        )
    lines = [f"Written: {path.relative_to(root)}" for path in made]
    if names := settings.load(root, name).secrets:
        lines.append(f"Then: daybook secrets set NAME -e {name}, for {', '.join(names)}")
    lines.append(f"Next: read environments/{name}.yml, then daybook run bootstrap -p env {name}")
    click.echo(ui.text(ui.Notice(f"{name}, made after {source}", ui.good("new"), lines)))


@env.command()
@click.argument("name", metavar="ENV")
@click.option("--rehearse", is_flag=True, help="Lead to the sandbox, whatever the settings say.")
def export(name: str, rehearse: bool) -> None:
    """Print what a shell evaluates: eval "$(daybook env export staging)".

    Then `terraform workspace select ENV && terraform apply` in terraform/environment, and
    `ansible-playbook --private-key "$DAYBOOK_SSH_KEY" -i ansible/inventories/ENV ansible/ENV.yml`
    do what the notebooks do, without asking and without a record.
    """
    environment = Environment.load(settings.find_root(), name, rehearse=rehearse)
    environment.target.require_up()
    for line in script(environment.target.environ | terraform_variables(environment), os.environ):
        click.echo(line)


def _check(root: Path, name: str) -> list[str]:
    """Print an environment's settings; return what else is wrong with it."""
    environment = Environment.load(root, name)
    compared = (preconditions.names_are_its_own, preconditions.github_is_agreed)
    results = [check(environment)(name) for check in compared]
    wrong = [f"{name}: {each.observed}; {each.fix}" for each in results if not each.is_ok]
    if not (root / "ansible" / f"{name}.yml").is_file():
        wrong.append(f"{name}: ansible/{name}.yml is missing")
    rows = [(each.key, each.value, each.origin) for each in settings_sources.resolve(environment)]
    status = ui.FAILED if wrong else ui.good("valid")
    title = f"{name} · {environment.target.title}: " + ("not valid" if wrong else "valid")
    click.echo(ui.text(ui.Table(title, ("setting", "value", "from"), rows, status)))
    return wrong


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
    """Return the shell lines that lead bare tools as `wanted` does; what is so already is left out.

    A variable that leads none of them stays the shell's.
    """
    gone = sorted(name for name in now.keys() - wanted.keys() if name.startswith(_LEADING))
    new = sorted(name for name, value in wanted.items() if now.get(name) != value)
    return [f"unset {name}" for name in gone] + [
        f"export {name}={shlex.quote(wanted[name])}" for name in new
    ]
