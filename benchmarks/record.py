"""Measure the record's overhead: notebooks with and without it under plain papermill, in one run.

.venv/bin/python benchmarks/record.py [--rounds N] [--gigabyte]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import nbformat
import psutil
from nbformat.v4 import new_code_cell, new_notebook
from rich.console import Console
from rich.table import Table

BEGIN = """
from pathlib import Path
from daybook.record.recorder import Recorder
header = {"run": "r1", "step": "bench", "environment": "staging", "target": "sandbox"}
recorder = Recorder.start(Path("."), Path("runs/staging/r1"), header,
                          template=Path("bench.ipynb"), key=Path("key"))
"""
LINES = (
    "for i in range(100_000): print('line', i, 'of output about as long as a common line in a log')"
)
GIGABYTE = "text = 'x' * 99\nfor i in range(10_000_000): print(text)"
CASES = {
    "100,000 lines": [LINES],
    "200 small cells": [f"{number} + 1" for number in range(200)],
}


@dataclass(frozen=True)
class Usage:
    """A run's wall seconds, and the peak memory of kernel and papermill together."""

    seconds: float
    peak_mib: float


def run(cells: list[str], *, is_recorded: bool) -> Usage:
    """Run a notebook under plain papermill in a new folder."""
    with tempfile.TemporaryDirectory(prefix="daybook-bench-") as name:
        folder = Path(name)
        keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key"]
        subprocess.run(keygen, check=True)
        first, last = ([BEGIN], ["recorder.finish()"]) if is_recorded else ([], [])
        sources = [*first, *cells, *last]
        spec = {"kernelspec": {"name": "python3", "display_name": "x", "language": "python"}}
        notebook = new_notebook(cells=[new_code_cell(s) for s in sources], metadata=spec)
        nbformat.write(notebook, folder / "bench.ipynb")
        command = [Path(sys.executable).with_name("papermill"), "--no-progress-bar", "bench.ipynb"]
        began = time.perf_counter()
        process = subprocess.Popen(
            [*command, "out.ipynb"], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        peak = Peak(process.pid)
        _, errors = process.communicate()
        usage = Usage(time.perf_counter() - began, peak.stop())
        assert process.returncode == 0, errors.decode()
        assert not is_recorded or (folder / "runs/staging/r1/record.json").exists()
        return usage


class Peak:
    """Watch the memory of a process and its children."""

    def __init__(self, pid: int) -> None:
        self._process, self._peak, self._stopped = psutil.Process(pid), 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        self._stopped.set()
        self._thread.join()
        return self._peak / 2**20

    def _watch(self) -> None:
        while not self._stopped.wait(0.1):
            try:
                family = [self._process, *self._process.children(recursive=True)]
                self._peak = max(self._peak, sum(member.memory_info().rss for member in family))
            except psutil.Error:
                continue


def main() -> None:
    """Print a table with median seconds, their ratio, and memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--gigabyte", action="store_true", help="also print 1 GB (minutes)")
    arguments = parser.parse_args()
    table = Table("notebook", "plain", "recorded", "ratio", "plain MiB", "recorded MiB")
    for name, cells in CASES.items():
        pairs = [
            (run(cells, is_recorded=False), run(cells, is_recorded=True))
            for _ in range(arguments.rounds)
        ]
        plain, recorded = (
            statistics.median(pair[side].seconds for pair in pairs) for side in (0, 1)
        )
        memory = [max(pair[side].peak_mib for pair in pairs) for side in (0, 1)]
        sizes = [f"{mib:.0f}" for mib in memory]
        table.add_row(
            name, f"{plain:.2f} s", f"{recorded:.2f} s", f"{recorded / plain:.2f}", *sizes
        )
    if arguments.gigabyte:
        usage = run([GIGABYTE], is_recorded=True)
        table.add_row("1 GB", "", f"{usage.seconds:.0f} s", "", "", f"{usage.peak_mib:.0f}")
    Console().print(table)
    print(f"{os.cpu_count()} cores, {arguments.rounds} rounds, wall time of the papermill command")


if __name__ == "__main__":
    main()
