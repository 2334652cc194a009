"""State locks left by a killed Terraform: removed if the holder has provably ended."""

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


def kill_everything_at(faulty, step: str, ending: str = ".tflock") -> str:
    """Kill all processes of a step while Terraform holds its lock; return the run's ID."""
    mark = f"left-{time.monotonic_ns()}"
    project = type(faulty.sandbox)(faulty.sandbox.root, extra={"DAYBOOK_TRIAL": mark})
    words = ("-p", "env", ENV, "-p", "approve", "auto")
    process = project.start("daybook", "run", step, *words, start_new_session=True)
    deadline = time.monotonic() + 240
    while not faulty.objects(ending):
        assert time.monotonic() < deadline, "Terraform did not lock its state"
        time.sleep(0.05)
    time.sleep(1)  # The kernel records the lock's ID in Daybook's lock within 0.2 s.
    assert faulty.objects(ending), "Terraform released its lock too soon"
    for victim in [known for known in psutil.process_iter() if has_mark(known, mark)]:
        victim.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    return max((faulty.sandbox.root / "runs" / ENV).glob(f"2*-{step}-*")).name


def has_mark(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get("DAYBOOK_TRIAL") == mark
    except psutil.Error:
        return False


def forge_machine(faulty) -> None:
    """Change the holder's machine in Daybook's lock, so that its end cannot be proven here."""
    s3, lock_object = faulty.client("s3"), {"Bucket": faulty.bucket, "Key": f"locks/{ENV}.json"}
    content = json.loads(s3.get_object(**lock_object)["Body"].read())
    assert content["state_locks"], "the kernel did not record Terraform's lock in time"
    for life in (content["life"], *(lock["life"] for lock in content["state_locks"])):
        life["boot"] = "another machine"
    s3.put_object(**lock_object, Body=json.dumps(content).encode())


def put_foreign_lock(faulty, state: str) -> None:
    content = {"ID": ID, "Operation": "OperationTypeApply", "Who": "ann@laptop"}
    content |= {"Version": "1.11.4", "Created": "2026-01-01T00:00:00Z", "Info": "", "Path": ""}
    key, body = f"{state}.tflock", json.dumps(content).encode()
    faulty.client("s3").put_object(Bucket=faulty.bucket, Key=key, Body=body)


def run_printed(faulty, output: str) -> str:
    """Run the command at the end of a message, in a shell."""
    [command] = re.findall(r"if it no longer runs: (.+)", output)
    env = os.environ | {"DAYBOOK_ROOT": str(faulty.sandbox.root)}
    env |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    shell = ["bash", "-euc", command]
    done = subprocess.run(shell, cwd="/", env=env, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.attack("F5", "everything is killed in terraform plan: its lock stops every next run")
def test_the_lock_of_an_ended_run_is_removed_and_reported_by_the_next_run(faulty):
    run = kill_everything_at(faulty, "provision")
    [left] = faulty.objects(".tflock")
    assert json.loads(faulty.sandbox.succeed("lock", "show", ENV, "--json"))["held"] is False
    output = faulty.finish("provision")
    assert f"of {run}, which has ended" in output, output
    assert faulty.objects(".tflock") == []
    record = faulty.sandbox.record(ENV, "provision")
    assert any(run in change["what"] for change in record["changes"] if change["tool"] == "daybook")
    assert left.startswith(f"env:/{ENV}/")


@pytest.mark.faults
@pytest.mark.attack("F5", "the computer of the killed run is gone, and its records with it")
def test_another_computer_finds_the_state_lock_in_daybooks_lock(faulty, copy_project, make_project):
    faulty.sandbox.set(ENV, snapshot_days=9)
    run = kill_everything_at(faulty, "provision")
    forge_machine(faulty)
    root = copy_project("elsewhere")
    (root / ".sandbox").symlink_to(faulty.sandbox.root / ".sandbox")
    settings = f"environments/{ENV}.yml"
    (root / settings).write_bytes((faulty.sandbox.root / settings).read_bytes())
    other = make_project(root)
    words = ("run", "provision", "-p", "env", ENV, "-p", "approve", "auto")
    refused = other.run(*words)
    assert refused.returncode == 8, refused.stdout
    assert run in refused.stdout
    other.succeed("lock", "break", ENV, "--reason", "the laptop was stolen")
    output = other.succeed(*words, timeout_s=900)
    assert "may still save its state" in output
    assert f"of {run}, which has ended" in output
    assert faulty.objects(".tflock") == []
    faulty.finish("provision")


@pytest.mark.attack("F5", "the printed way to remove a lock of nobody's fails as printed")
@pytest.mark.parametrize(
    ("step", "name", "state"),
    [
        ("provision", ENV, state_lock.state_key("environment", ENV)),
        ("bootstrap", "account", state_lock.state_key("account", "default")),
    ],
)
def test_a_foreign_lock_is_kept_until_the_printed_command_removes_it(faulty, step, name, state):
    put_foreign_lock(faulty, state)
    refused = faulty.sandbox.run("run", step, "-p", "env", ENV, "-p", "approve", "auto")
    assert refused.returncode == 8, refused.stdout
    assert "ann@laptop" in refused.stdout
    assert faulty.objects(".tflock") == [f"{state}.tflock"]
    shown = faulty.sandbox.succeed("lock", "show", name)
    assert ID in shown
    reason = ("--reason", "x", "--terraform")
    assert faulty.sandbox.run("lock", "break", name, *reason, "another").returncode == 2
    assert faulty.objects(".tflock") == [f"{state}.tflock"]
    assert "Removed Terraform's lock" in run_printed(faulty, refused.stdout)
    assert faulty.objects(".tflock") == []
    assert faulty.sandbox.run("lock", "break", name, *reason, ID).returncode == 2
    faulty.finish(step)
