#!/usr/bin/env python3
"""Write README.md's table of steps from the first cells of the notebooks.

tools/steps_table.py [--check]: with --check, exit with 1 if the table is not current.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STEPS = ("bootstrap", "provision", "configure", "first-deploy", "teardown")
BEGIN, END = "<!-- steps: tools/steps_table.py -->\n", "<!-- end of steps -->\n"
LINK = re.compile(r"\]\((?!https?:)([^)]+)\)")


def row(name: str) -> str:
    """Return a notebook's row: its result, its minutes and its undo."""
    path = ROOT / f"notebooks/{name}.ipynb"
    lines = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"]).splitlines()
    result = next(line for line in lines if line.startswith("> ")).removeprefix("> ")
    minutes, _, _, undo = (
        [line for line in lines if line.startswith("|")][2].strip("| ").split(" | ")
    )
    cells = (f"[{name}]({name}.ipynb)", result, minutes, undo)
    return LINK.sub(lambda link: f"]({from_root(link[1])})", f"| {' | '.join(cells)} |")


def from_root(link: str) -> str:
    """Return a link of a file in notebooks/ as one of a file in the root."""
    return link.removeprefix("../") if link.startswith("../") else f"notebooks/{link}"


def table() -> str:
    """Return the whole table."""
    head = ("| step | result | minutes | undo |", "|---|---|---|---|")
    return "\n".join((*head, *map(row, STEPS))) + "\n"


def main() -> int:
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    current = before + BEGIN + table() + END + rest.split(END)[1]
    if "--check" not in sys.argv:
        readme.write_text(current, encoding="utf-8")
    elif current != text:
        print("README.md: the table of steps is not current; run tools/steps_table.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
