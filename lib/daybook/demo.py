"""`daybook demo`: the whole life of the application in the sandbox, one step after the other."""

from __future__ import annotations

import sys

import click

from daybook import headless, inventory, parameters, probe, settings, target, ui
from daybook.terminal import Terminal

ENV = "staging"
UP = ("bootstrap", "provision", "configure", "first-deploy")
DOWN = ("teardown",)


@click.command()
@click.option("--down", is_flag=True, help="Tear the demo's environment down.")
def demo(down: bool) -> None:
    """Rehearse staging: bootstrap, provision, configure, first-deploy; then show the page."""
    root = settings.find_root()
    outcomes = []
    for step in DOWN if down else UP:
        notebook = parameters.find_notebook(root, step)
        chosen = {"env": ENV, "approve": "auto", "rehearse": True}
        chosen |= {"confirm": ENV} if down else {}
        outcomes.append(headless.run(notebook, chosen, root=root))
        if outcomes[-1].exit_code:
            sys.exit(outcomes[-1].exit_code)
    if not down:
        _show(root, outcomes)


def _show(root, outcomes) -> None:
    """Fetch the page as a visitor would, then say what there is and how to go on."""
    chosen = settings.load(root, ENV)
    where = target.resolve(chosen, root, rehearse=True)
    hosts = inventory.read(
        root
        / "ansible"
        / "inventories"
        / (ENV if chosen.account == "sandbox" else f"rehearsal-{ENV}")
    )
    rows = []
    for url in (f"https://{name}/" for name in chosen.names):
        answer = probe.fetch(url, where.environ)
        answer.raise_for_status()
        rows.append((ui.good(f"HTTP {answer.status_code}"), url, f"{len(answer.content)} bytes"))
    rows += [
        (ui.good("runs"), f"ssh: daybook sandbox ssh {name}", ip) for name, ip in hosts.items()
    ]
    for step, outcome in zip(UP, outcomes, strict=True):
        rows.append((ui.good("recorded"), step, str(outcome.folder.relative_to(root))))
    name, address = chosen.names[0], next(iter(hosts.values()))
    notes = (
        f"The page:        https://{name}/, for whom {name} is {address}",
        f"With curl:       curl --cacert .sandbox/ca.pem --resolve {name}:443:{address} https://{name}/",
        "In JupyterLab:   make lab, then notebooks/ and runs/",
        "To end:          make demo-down",
    )
    Terminal().show(
        ui.Table(f"The demo of {ENV} is up", ("status", "what", "where"), rows, None, notes)
    )
