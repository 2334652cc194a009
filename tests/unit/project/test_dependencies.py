"""What pyproject.toml declares is imported, and what is imported is declared."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PROGRAMS = {
    "ipykernel": "the kernel of the notebooks",
    "jupyterlab": "make lab",
}
"""Declared for a program that is run, not for a module that is imported."""
OWN = {"daybook", "daybook_release", "daybook_sandbox"}


def declared(requirements: list[str]) -> set[str]:
    """Return the names of distributions: {"moto"} for "moto[server]>=5.1"."""
    return {re.match(r"[A-Za-z0-9._-]+", each)[0].lower() for each in requirements}


def imported(*packages: str) -> set[str]:
    """Return the distributions whose modules the files of these packages import."""
    known = packages_distributions()
    names = set()
    for path in (path for package in packages for path in (ROOT / "lib" / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module.partition(".")[0])
    foreign = names - set(sys.stdlib_module_names) - OWN
    return {known[name][0].lower().replace("_", "-") for name in foreign}


@pytest.mark.parametrize("package", ["daybook", "daybook_sandbox"])
def test_what_is_imported_is_declared(package):
    extra = PROJECT["optional-dependencies"]["sandbox"] if package == "daybook_sandbox" else []
    missing = imported(package) - declared([*PROJECT["dependencies"], *extra])
    assert not missing


def test_what_is_declared_is_imported():
    assert declared(PROJECT["dependencies"]) - imported("daybook") == set(PROGRAMS)
    sandbox = declared(PROJECT["optional-dependencies"]["sandbox"])
    assert sandbox <= imported("daybook_sandbox")


def test_moto_is_pinned_below_its_next_minor_since_its_internals_are_patched():
    [moto] = [each for each in PROJECT["optional-dependencies"]["sandbox"] if "moto" in each]
    low, high = re.fullmatch(r"moto\[server\]>=5\.(\d+),<5\.(\d+)", moto).groups()
    assert int(high) == int(low) + 1
