"""`daybook demo`: run the application's whole life in the sandbox."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import click

from daybook import github, probe, settings, ui
from daybook.environment import Environment
from daybook.headless import execution, parameters
from daybook.headless.execution import Outcome
from daybook.headless.terminal import Terminal
from daybook_sandbox.developer import Checkout, ReleasedPush

ENV = "staging"
UP = ("bootstrap", "provision", "configure", "first-deploy")
DOWN = "teardown"


@click.command()
@click.option("--down", is_flag=True, help="Tear the demo's environment down.")
def demo(down: bool) -> None:
    """Rehearse staging: bootstrap, provision, configure, first-deploy; then push a change."""
    root = settings.find_root()
    if down:
        _step(root, DOWN, {"confirm": ENV})
        return
    outcomes = [_step(root, UP[0], {})]
    environment = Environment.load(root, ENV, rehearse=True)
    # A user would create this token on GitHub and pass it to `daybook github token`.
    token = (root / ".sandbox" / "github-token").read_text(encoding="utf-8").strip()
    github.store(environment, github.TOKEN, token)
    checkout = Checkout.make(environment)
    outcomes += [_step(root, step, {}) for step in UP[1:-1]]
    outcomes.append(_step(root, UP[-1], {"repository": str(checkout.folder)}))
    pushed = checkout.push(environment)
    _show(environment, dict(zip(UP, outcomes, strict=True)), pushed)


def _step(root: Path, step: str, extra: Mapping[str, object]) -> Outcome:
    """Run a step; exit with its code if it fails."""
    given = {"env": ENV, "approve": "auto", "rehearse": True, **extra}
    outcome = execution.run(parameters.find_notebook(root, step), given, root=root)
    if outcome.exit_code:
        sys.exit(outcome.exit_code)
    return outcome


def _show(environment: Environment, outcomes: Mapping[str, Outcome], pushed: ReleasedPush) -> None:
    """Fetch the page as a visitor would; show the result and the next commands."""
    settings, hosts = environment.settings, environment.inventory.hosts()
    rows = []
    for url in (f"https://{name}/" for name in settings.domains):
        response = probe.fetch(url, environment.target.environ)
        response.raise_for_status()
        rows.append(
            (ui.good(f"HTTP {response.status_code}"), url, f"{len(response.content)} bytes")
        )
    rows += [
        (ui.good("runs"), f"ssh: daybook sandbox ssh {name}", ip) for name, ip in hosts.items()
    ]
    for step, outcome in outcomes.items():
        rows.append((ui.good("recorded"), step, str(outcome.folder.relative_to(environment.root))))
    result = f"{pushed.visits.requests} requests meanwhile, none failed"
    rows.append(
        (ui.good("pushed"), f"{pushed.commit[:12]}, released by the runner on the host", result)
    )
    name, address = settings.domains[0], next(iter(hosts.values()))
    notes = (
        f"The page:        https://{name}/, if {name} resolves to {address}",
        f"With curl:       curl --cacert .sandbox/ca.pem --resolve {name}:443:{address} https://{name}/",
        f"The push's run:  curl {pushed.run.url}",
        f"To push again:   cd .sandbox/checkout/{settings.app}, change a file, commit, git push",
        "Its releases:    daybook release list staging --rehearse",
        "In JupyterLab:   make lab, then notebooks/ and runs/",
        "To stop:         make demo-down",
    )
    Terminal().show(
        ui.Table(f"The demo of {ENV} is up", ("status", "item", "details"), rows, None, notes)
    )
