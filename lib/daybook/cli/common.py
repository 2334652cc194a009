"""Options and helpers that several commands share: the environment, and JSON output."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

from daybook import checks, settings
from daybook.environment import Environment

AGAIN = "run the same command again"

rehearse = click.option("--rehearse", is_flag=True, help="Use the environment's rehearsal.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
env_option = click.option("-e", "--env", required=True, metavar="ENV")


def on_environment(command: Callable) -> Callable:
    """Add `-e ENV` and `--rehearse`."""
    return env_option(rehearse(command))


def reachable(env: str, *, rehearse: bool) -> Environment:
    """Load an environment; PreflightFailed unless its target answers from the right account."""
    environment = Environment.load(settings.find_root(), env, rehearse=rehearse)
    checks.run_checks(environment.target, {}, {}).require(AGAIN)
    return environment


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    click.echo(json.dumps(value, indent=1, ensure_ascii=False))
