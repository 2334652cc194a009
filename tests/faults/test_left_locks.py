"""Terraform's own lock, left by a Terraform that was killed: removed when that is proven."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from daybook.terraform import state_lock

ENV = "faults"
ID = "11111111-2222-3333-4444-555555555555"

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(1500)]


def kill_everything_at(ground, step: str, ending: str = ".tflock") -> str:
    """Kill all processes of a step while Terraform holds its lock; return the run's id."""
    mark = f"left-{time.monotonic_ns()}"
    project = type(ground.sandbox)(ground.sandbox.root, extra={"DAYBOOK_TRIAL": mark})
    words = ("-p", "env", ENV, "-p", "approve", "auto")
    process = project.start("daybook", "run", step, *words, start_new_session=True)
    deadline = time.monotonic() + 240
    while not ground.objects(ending):
        assert time.monotonic() < deadline, "Terraform did not lock its state"
        time.sleep(0.05)
    time.sleep(1)  # The kernel notes the id in Daybook's lock within a fifth of one.
    assert ground.objects(ending), "Terraform was quicker"
    for each in [each for each in psutil.process_iter() if has_mark(each, mark)]:
        each.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    return max((ground.sandbox.root / "runs" / ENV).glob(f"2*-{step}-*")).name


def has_mark(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get("DAYBOOK_TRIAL") == mark
    except psutil.Error:
        return False


def forge_machine(ground) -> None:
    """Have Daybook's lock say that its holder was on another machine: nothing is proven here."""
    s3, place = ground.client("s3"), {"Bucket": ground.bucket, "Key": f"locks/{ENV}.json"}
    said = json.loads(s3.get_object(**place)["Body"].read())
    assert said["state_locks"], "the kernel had no time to note Terraform's lock"
    for life in (said["life"], *(each["life"] for each in said["state_locks"])):
        life["boot"] = "another machine"
    s3.put_object(**place, Body=json.dumps(said).encode())


def put_foreign_lock(ground, state: str) -> None:
    said = {"ID": ID, "Operation": "OperationTypeApply", "Who": "ann@laptop", "Version": "1.11.4"}
    said |= {"Created": "2026-01-01T00:00:00Z", "Info": "", "Path": ""}
    key, body = f"{state}.tflock", json.dumps(said).encode()
    ground.client("s3").put_object(Bucket=ground.bucket, Key=key, Body=body)


def run_printed(ground, said: str) -> str:
    """Run the command that a message ends with, in a shell at the project's root."""
    [command] = re.findall(r"if it no longer runs: (.+)", said)
    env = os.environ | {"DAYBOOK_ROOT": str(ground.sandbox.root)}
    env |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    shell = ["bash", "-euc", command]
    done = subprocess.run(shell, cwd="/", env=env, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.attack("F5", "everything is killed in terraform plan: its lock stops every next run")
def test_the_lock_of_a_run_that_is_over_is_removed_and_the_next_run_says_so(ground):
    run = kill_everything_at(ground, "provision")
    [left] = ground.objects(".tflock")
    assert json.loads(ground.sandbox.succeed("lock", "show", ENV, "--json"))["held"] is False
    said = ground.finish("provision")
    assert f"of {run}, which has ended" in said, said
    assert ground.objects(".tflock") == []
    record = ground.sandbox.record(ENV, "provision")
    assert any(run in each["what"] for each in record["changes"] if each["tool"] == "daybook")
    assert left.startswith(f"env:/{ENV}/")


@pytest.mark.faults
@pytest.mark.attack("F5", "the computer of the killed run is gone, and its records with it")
def test_another_computer_learns_of_it_from_daybooks_lock(ground, copy_project, make_project):
    ground.sandbox.set(ENV, snapshot_days=9)
    run = kill_everything_at(ground, "provision")
    forge_machine(ground)
    root = copy_project("elsewhere")
    (root / ".sandbox").symlink_to(ground.sandbox.root / ".sandbox")
    settings = f"environments/{ENV}.yml"
    (root / settings).write_bytes((ground.sandbox.root / settings).read_bytes())
    other = make_project(root)
    words = ("run", "provision", "-p", "env", ENV, "-p", "approve", "auto")
    refused = other.run(*words)
    assert refused.returncode == 8, refused.stdout
    assert run in refused.stdout
    other.succeed("lock", "break", ENV, "--reason", "the laptop was stolen")
    said = other.succeed(*words, timeout_s=900)
    assert "may still save its state" in said
    assert f"of {run}, which has ended" in said
    assert ground.objects(".tflock") == []
    ground.finish("provision")


@pytest.mark.attack("F5", "the printed way to remove a lock of nobody's fails as printed")
@pytest.mark.parametrize(
    ("step", "name", "state"),
    [
        ("provision", ENV, state_lock.state_key("environment", ENV)),
        ("bootstrap", "account", state_lock.state_key("account", "default")),
    ],
)
def test_a_lock_of_somebody_elses_stays_until_the_printed_command_removes_it(
    ground, step, name, state
):
    put_foreign_lock(ground, state)
    refused = ground.sandbox.run("run", step, "-p", "env", ENV, "-p", "approve", "auto")
    assert refused.returncode == 8, refused.stdout
    assert "ann@laptop" in refused.stdout
    assert ground.objects(".tflock") == [f"{state}.tflock"]
    shown = ground.sandbox.succeed("lock", "show", name)
    assert ID in shown
    reason = ("--reason", "x", "--terraform")
    assert ground.sandbox.run("lock", "break", name, *reason, "another").returncode == 2
    assert ground.objects(".tflock") == [f"{state}.tflock"]
    assert "removed" in run_printed(ground, refused.stdout)
    assert ground.objects(".tflock") == []
    assert ground.sandbox.run("lock", "break", name, *reason, ID).returncode == 2
    ground.finish(step)
