"""Compare the playbook's duration with our ansible.cfg and with Ansible's defaults.

    python benchmarks/configure.py [HOSTS...]    # default: 1 and 4 hosts; needs Docker

Each number of hosts gets a sandbox with two environments, one for each side's first run. Then both
sides run alternately on the same configured hosts, each time with a new connection: first through
the sandbox's network, which adds no latency, then with a round trip of FAR_MS. The target: an
unchanged second run takes at most 0.35 of the time with defaults.
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
"""The environment of each side's first run."""
ROUNDS = 3
FAR_MS = 40
"""A round trip to a region on the same continent."""
TARGET = 0.35


def main() -> None:
    """Measure, print the table, and exit with 1 if the target is missed."""
    counts = [int(word) for word in sys.argv[1:]] or [1, 4]
    table = Table(
        title=f"The playbook with our ansible.cfg and with defaults; second: median of {ROUNDS}"
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
    print(f"Worst second run: {max(ratios):.2f} of the time with defaults; target: {TARGET}.")
    sys.exit(0 if max(ratios) <= TARGET else 1)


def measure(count: int) -> dict[str, dict[str, float]]:
    """Return the seconds of each run: {"first": {"ours": 61.0, "defaults": 70.2}, …}."""
    with fresh_project() as root:
        for env in SIDES.values():
            prepare(root, env, count)
        say(f"{count} hosts: the first run")
        first = {side: play(root, env, side) for side, env in SIDES.items()}
        durations = {"first": first}
        for name, far_ms in (("second", 0), (f"second, {FAR_MS} ms away", FAR_MS)):
            say(f"{count} hosts: {name}")
            rounds = [
                {side: play(root, SIDES["ours"], side, far_ms=far_ms) for side in SIDES}
                for _ in range(ROUNDS)
            ]
            durations[name] = {side: statistics.median(r[side] for r in rounds) for side in SIDES}
        return durations


def prepare(root: Path, env: str, count: int) -> None:
    """Provision an environment with this many hosts."""
    settings = root / "environments" / f"{env}.yml"
    instance = {"type": "t3.small", "disk_gib": 20, "count": count}
    changes = {"instance": instance, "approvals": 0, "protected": False}
    settings.write_text(yaml.safe_dump(yaml.safe_load(settings.read_text()) | changes))
    timed([DAYBOOK, "run", "provision", "-p", "env", env, "-p", "approve", "auto"], root)


def play(root: Path, env: str, side: str, *, far_ms: int = 0) -> float:
    """Run an environment's playbook like an operator, and return the seconds."""
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


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
