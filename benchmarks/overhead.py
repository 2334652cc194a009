"""Measure Daybook's overhead: a step's wall time compared with its tools run directly.

    python benchmarks/overhead.py [ROUNDS]     # about five minutes per round; needs Docker

Each side of a round gets a new copy of the project and a new sandbox, one after the other; the
account is bootstrapped before the clock starts. Both sides do the same: init, plan and apply of
terraform/environment, then the playbook. Daybook's time includes its kernel, checks, verification
and record. The target: at most 1.05 times the bare tools plus 3 seconds.
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

CHECKOUT = Path(__file__).resolve().parents[1]
DAYBOOK = Path(sys.executable).with_name("daybook")
ENV = "staging"
DELIVERY = r"(?ms)^deploy_via:.*?(?=^secrets:)"
"""The settings for pushes, removed because a runner on the host is not measured."""
APPROVED = ("-p", "env", ENV, "-p", "approve", "auto")
STEPS = ("provision", "configure")


def main() -> None:
    """Measure, print the table, and exit with 1 if the target is missed."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    seconds = {side: {step: [] for step in STEPS} for side in ("daybook", "bare")}
    for number in range(1, rounds + 1):
        for side, measure in (("daybook", measure_daybook), ("bare", measure_bare)):
            print(f"round {number} of {rounds}: {side}", file=sys.stderr, flush=True)
            with fresh_project() as root:
                for step, taken in measure(root).items():
                    seconds[side][step].append(taken)
    medians = {
        side: {s: statistics.median(t) for s, t in durations.items()}
        for side, durations in seconds.items()
    }
    sys.exit(0 if show(medians, rounds) else 1)


def measure_daybook(root: Path) -> dict[str, float]:
    """Return the seconds of each step with Daybook."""
    return {step: timed([DAYBOOK, "run", step, *APPROVED], root) for step in STEPS}


def measure_bare(root: Path) -> dict[str, float]:
    """Return the seconds of each step with its tools alone."""
    provision = bare_terraform(root)
    # Daybook writes the inventory; the infrastructure already exists.
    timed([DAYBOOK, "run", "provision", *APPROVED], root)
    return {"provision": provision, "configure": bare_ansible(root)}


def bare_terraform(root: Path) -> float:
    """Run init, plan and apply in terraform/environment like an operator."""
    folder, plan, env = root / "terraform/environment", root / "bare.tfplan", exported(root)
    options = ["-input=false", "-lock-timeout=30s"]
    began = time.monotonic()
    timed(["terraform", "init", "-input=false"], folder, env)
    in_workspace = env | {"TF_WORKSPACE": ENV}
    timed(["terraform", "plan", *options, f"-out={plan}"], folder, in_workspace)
    timed(["terraform", "apply", *options, plan], folder, in_workspace)
    return time.monotonic() - began


def bare_ansible(root: Path) -> float:
    """Run the playbook like an operator."""
    env = exported(root)
    command = ["ansible-playbook", "--private-key", env["DAYBOOK_SSH_KEY"]]
    return timed([*command, "-i", f"ansible/inventories/{ENV}", f"ansible/{ENV}.yml"], root, env)


def exported(root: Path, env: str = ENV) -> dict[str, str]:
    """Return a shell's environment after `daybook env export`."""
    script = f'eval "$({DAYBOOK} env export {env})" && env --null'
    base = os.environ | {"DAYBOOK_ROOT": str(root)}
    output = subprocess.check_output(["bash", "-euc", script], cwd=root, env=base, text=True)
    return dict(line.split("=", 1) for line in output.split("\0") if line)


@contextmanager
def fresh_project() -> Iterator[Path]:
    """Yield a copy of the project with a new sandbox and a bootstrapped account."""
    with tempfile.TemporaryDirectory(prefix="daybook-overhead-") as folder:
        root = Path(folder)
        listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.check_output(listing, cwd=CHECKOUT, text=True).split("\0")
        for name in [*filter(None, names), ".cache/terraform.rc"]:
            if (CHECKOUT / name).is_file():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(CHECKOUT / name, root / name)
        for path in (root / "environments").glob("*.yml"):
            path.write_text(re.sub(DELIVERY, "", path.read_text()))
        timed([DAYBOOK, "sandbox", "up"], root)
        try:
            timed([DAYBOOK, "run", "bootstrap", *APPROVED], root)
            yield root
        finally:
            timed([DAYBOOK, "sandbox", "down"], root)


def timed(command: Sequence[str | Path], cwd: Path, env: dict[str, str] | None = None) -> float:
    """Run a command and return its seconds; exit with its output if it fails."""
    began = time.monotonic()
    done = subprocess.run(
        command,
        cwd=cwd,
        env=env or os.environ | {"DAYBOOK_ROOT": str(cwd)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} exited with {done.returncode}\n{done.stdout}")
    return time.monotonic() - began


def show(medians: dict[str, dict[str, float]], rounds: int) -> bool:
    """Print one row per step; return True if all are within the target."""
    table = Table(title=f"Daybook and the bare tools, median of {rounds}")
    for column in ("step", "daybook", "bare", "ratio", "allowed", ""):
        table.add_column(column, justify="left" if column in ("step", "") else "right")
    is_within = True
    for step in STEPS:
        ours, bare = medians["daybook"][step], medians["bare"][step]
        allowed = 1.05 * bare + 3
        is_within &= ours <= allowed
        verdict = "within" if ours <= allowed else "over"
        numbers = (f"{ours:.1f} s", f"{bare:.1f} s", f"{ours / bare:.2f}", f"{allowed:.1f} s")
        table.add_row(step, *numbers, verdict)
    Console().print(table)
    return is_within


if __name__ == "__main__":
    main()
