"""A state that Terraform could not save: kept, told, pushed by the printed commands, finished."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.faults, pytest.mark.sandbox, pytest.mark.timeout(900)]


def test_a_state_that_could_not_be_saved_is_pushed_by_the_printed_commands(ground):
    if ground.hosts():
        ground.finish("teardown")
    process = ground.begin("provision")
    ground.sandbox.wait_for(process, r"created +aws_vpc\.this")
    with ground.unwritable_state():
        said = process.communicate(timeout=600)[0]
        assert process.returncode == 6, said
        assert "the state that could not be saved" in " ".join(said.split())
        kept = ground.sandbox.root / "terraform/environment/errored.faults.tfstate"
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        assert "aws_vpc" in kept.read_text()
        assert "aws_vpc" not in ground.state()
    again = ground.begin("provision")
    said = again.communicate(timeout=600)[0]
    assert again.returncode == 3, said
    assert kept.name in said
    push(ground, told(ground))
    assert not kept.exists()
    assert "aws_vpc" in ground.state()
    ground.finish("provision")
    assert ground.orphans() == []
    assert [host.state for host in ground.hosts()] == ["running"]


def told(ground) -> str:
    """Return the commands that the failed preflight gave, without the sentence after them."""
    checks = ground.sandbox.record("faults", "provision")["checks"]
    fix = next(check["fix"] for check in checks if check["name"] == "state")
    return fix.split(". If it is refused", 1)[0]


def push(ground, commands: str) -> None:
    """Run commands in a shell at the project's root, as an operator would."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = os.environ | {"DAYBOOK_ROOT": str(ground.sandbox.root), "PATH": path}
    shell = ["bash", "-euo", "pipefail", "-c", commands]
    done = subprocess.run(
        shell, cwd=ground.sandbox.root, env=env, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
