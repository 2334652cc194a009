"""What ansible.cfg is worth: the same playbook with it and with Ansible's own defaults.

    python benchmarks/configure.py [HOSTS...]    # 1 and 4 hosts unless said; needs Docker

Each number of hosts gets a sandbox with two environments: each side's first run is of an untouched
one. Then both sides play on the same configured hosts, in turns, each with a new connection:
once through the sandbox's own network, which takes no time, and once as from FAR_MS away. The aim:
an unchanged second run in at most 0.35 of the defaults' time.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from pathlib import Path

import yaml
from overhead import CHECKOUT, DAYBOOK, exported, fresh_project, timed
from rich.console import Console
from rich.table import Table

SIDES = {"ours": "staging", "defaults": "production"}
"""Whose hosts each side plays on first."""
ROUNDS = 3
FAR_MS = 40
"""A round trip to a region of one's own continent."""
AIM = 0.35


def main() -> None:
    """Measure, print the table, and end with 1 when the aim is missed."""
    counts = [int(word) for word in sys.argv[1:]] or [1, 4]
    table = Table(
        title=f"The playbook, ours against Ansible's defaults; second: median of {ROUNDS}"
    )
    for column in ("hosts", "run", "ours", "defaults", "ratio"):
        table.add_column(column, justify="left" if column == "run" else "right")
    ratios = []
    for count in counts:
        for run, seconds in measure(count).items():
            ratio = seconds["ours"] / seconds["defaults"]
            numbers = (f"{seconds[side]:.1f} s" for side in SIDES)
            table.add_row(str(count), run, *numbers, f"{ratio:.2f}")
            ratios += [ratio] if run.startswith("second") else []
    Console().print(table)
    print(f"Worst second run: {max(ratios):.2f} of the defaults' time; the aim is {AIM}.")
    sys.exit(0 if max(ratios) <= AIM else 1)


def measure(count: int) -> dict[str, dict[str, float]]:
    """Return the seconds of each run: {"first": {"ours": 61.0, "defaults": 70.2}, …}."""
    with fresh_project() as root:
        for env in SIDES.values():
            prepare(root, env, count)
        say(f"{count} hosts: the first run")
        first = {side: play(root, env, side) for side, env in SIDES.items()}
        found = {"first": first}
        for name, far_ms in (("second", 0), (f"second, {FAR_MS} ms away", FAR_MS)):
            say(f"{count} hosts: {name}")
            rounds = [
                {side: play(root, SIDES["ours"], side, far_ms=far_ms) for side in SIDES}
                for _ in range(ROUNDS)
            ]
            found[name] = {side: statistics.median(r[side] for r in rounds) for side in SIDES}
        return found


def prepare(root: Path, env: str, count: int) -> None:
    """Provision an environment with this many hosts."""
    settings = root / "environments" / f"{env}.yml"
    instance = {"type": "t3.small", "disk_gib": 20, "count": count}
    changes = {"instance": instance, "approvals": 0, "protected": False}
    settings.write_text(yaml.safe_dump(yaml.safe_load(settings.read_text()) | changes))
    timed([DAYBOOK, "run", "provision", "-p", "env", env, "-p", "approve", "auto"], root)


def play(root: Path, env: str, side: str, *, far_ms: int = 0) -> float:
    """Play an environment's playbook as a person would, and return the seconds."""
    with tempfile.TemporaryDirectory(prefix="cp-") as folder:
        variables = exported(root, env) | {"ANSIBLE_SSH_CONTROL_PATH_DIR": folder}
        if side == "defaults":
            empty = Path(folder, "ansible.cfg")
            empty.touch()
            variables["ANSIBLE_CONFIG"] = str(empty)
        if far_ms:
            relay = f"{sys.executable} {CHECKOUT}/benchmarks/far.py %h %p {far_ms / 2}"
            variables["ANSIBLE_SSH_EXTRA_ARGS"] = f"-o 'ProxyCommand={relay}'"
        key = variables["DAYBOOK_SSH_KEY"]
        command = ["ansible-playbook", "--private-key", key, "-i", f"ansible/inventories/{env}"]
        return timed([*command, f"ansible/{env}.yml"], root, os.environ | variables)


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
