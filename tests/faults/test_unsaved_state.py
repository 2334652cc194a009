"""A state that Terraform could not save: kept, reported, and pushed by the printed commands."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.faults, pytest.mark.sandbox, pytest.mark.timeout(900)]


def test_an_unsaved_state_is_pushed_by_the_printed_commands(faulty):
    if faulty.hosts():
        faulty.finish("teardown")
    process = faulty.begin("provision")
    faulty.sandbox.wait_for(process, r"created +aws_vpc\.this")
    with faulty.unwritable_state():
        output = process.communicate(timeout=600)[0]
        assert process.returncode == 6, output
        assert "the state that could not be saved" in " ".join(output.split())
        kept = faulty.sandbox.root / "terraform/environment/errored.faults.tfstate"
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        assert "aws_vpc" in kept.read_text()
        assert "aws_vpc" not in faulty.state()
    again = faulty.begin("provision")
    output = again.communicate(timeout=600)[0]
    assert again.returncode == 3, output
    assert kept.name in output
    push(faulty, printed_commands(faulty))
    assert not kept.exists()
    assert "aws_vpc" in faulty.state()
    faulty.finish("provision")
    assert faulty.orphans() == []
    assert [host.state for host in faulty.hosts()] == ["running"]


def printed_commands(faulty) -> str:
    """Return the commands in the failed preflight's fix, without the sentence after them."""
    checks = faulty.sandbox.record("faults", "provision")["checks"]
    fix = next(check["fix"] for check in checks if check["name"] == "state")
    return fix.split(". If Terraform refuses", 1)[0]


def push(faulty, commands: str) -> None:
    """Run commands in a shell at the project's root like an operator."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = os.environ | {"DAYBOOK_ROOT": str(faulty.sandbox.root), "PATH": path}
    shell = ["bash", "-euo", "pipefail", "-c", commands]
    done = subprocess.run(
        shell, cwd=faulty.sandbox.root, env=env, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
