"""environment.yml and `make setup` give the same set."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[3]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DEPENDENCIES = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]


def conda(name: str) -> str:
    """Return the range environment.yml allows for a conda package."""
    found = [d for d in DEPENDENCIES if isinstance(d, str) and d.split()[0] == name]
    assert found, f"environment.yml has no {name}"
    return found[0].removeprefix(name).strip()


def locked() -> dict[str, str]:
    """Return the locked versions: {"boto3": "1.40.1"}; the first where platforms differ."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [match for line in lines if (match := re.match(r"([\w.-]+)==([\w.!+]+)", line))]
    return {pin[1].lower().replace("_", "-"): pin[2] for pin in reversed(pins)}


def test_python_is_the_one_the_package_requires():
    assert conda("python") == PYPROJECT["requires-python"]


def test_terraform_is_the_range_that_setup_accepts():
    spec = importlib.util.spec_from_file_location("daybook_setup", ROOT / "tools/setup.py")
    setup = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(setup)
    (major, minor), (too_new, _) = setup.TERRAFORM_RANGE
    assert conda("terraform") == f">={major}.{minor},<{too_new}"


def test_the_tools_that_setup_installs_are_there():
    for name in ("openssh", "git", "make", "pip"):
        conda(name)


def test_python_packages_come_from_the_package_with_every_extra():
    [pip] = [d["pip"] for d in DEPENDENCIES if isinstance(d, dict)]
    extras = ",".join(PYPROJECT["optional-dependencies"])
    assert pip == [f"--editable .[{extras}]"]


def test_every_dependency_is_locked():
    groups = [PYPROJECT["dependencies"], *PYPROJECT["optional-dependencies"].values()]
    wanted = [line for group in groups for line in group]
    names = {re.match(r"[\w.-]+", line)[0].lower() for line in wanted}
    assert names <= set(locked()), names - set(locked())


def test_the_lock_has_all_that_its_packages_need():
    check = [sys.executable, "-m", "pip", "--disable-pip-version-check", "check"]
    done = subprocess.run(check, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
