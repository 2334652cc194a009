"""Concurrent runs in one environment, and an environment with several problems."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable

import pytest

pytestmark = pytest.mark.sandbox

ENV = "turns"
SETTINGS = {"app": "turns", "dns_zone": "turns.test", "domains": ["turns.turns.test"]}
PROVISION = ("run", "provision", "-p", "env", ENV, "-p", "approve", "auto")
TEARDOWN = ("run", "teardown", "-p", "env", ENV, "-p", "approve", "auto", "-p", "confirm", ENV)


@pytest.fixture(scope="module")
def turns(sandbox):
    """Yield the project with an environment for this module and a bootstrapped account."""
    sandbox.set(ENV, vpc_cidr="10.62.0.0/16", **SETTINGS)
    sandbox.step("bootstrap", ENV)
    yield sandbox
    sandbox.set(ENV, require_git="any", freezes=[])
    sandbox.succeed(*TEARDOWN, "-p", "skip_snapshots", "all")
    (sandbox.root / "environments" / f"{ENV}.yml").unlink()


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.1)


def held(project) -> dict:
    return json.loads(project.succeed("lock", "show", ENV, "--json"))


def applying(project, step: str) -> bool:
    """Return True once the newest run of a step has started to apply."""
    journals = sorted((project.root / "runs" / ENV).glob(f"*-{step}-*/journal.jsonl"))
    return bool(journals) and '"name":"apply"' in journals[-1].read_text()


def test_all_problems_of_the_environment_are_reported_at_once(turns):
    always = {"since": "2026-01-01T00:00:00Z", "until": "2999-01-01T00:00:00Z", "reason": "audit"}
    turns.set(ENV, require_git="pushed", freezes=[always], vpc_cidr="10.20.64.0/18")
    done = turns.run(*PROVISION)
    turns.set(ENV, require_git="any", freezes=[always], vpc_cidr="10.62.0.0/16")
    assert done.returncode == 3
    for text in (
        "✗ names: ",
        "overlaps 10.20.0.0/16 of staging",
        "✗ git: ",
        "✗ review: ",
        "✗ freeze: ",
        "audit",
        "4 of",
    ):
        assert text in done.stdout
    assert "Nothing was changed." in done.stdout
    assert turns.record(ENV, "provision")["status"] == "failed"


def test_a_freeze_is_overridden_with_a_recorded_reason(turns):
    done = turns.run("run", "provision", "-p", "env", ENV, "--override-freeze", "the shop is down")
    turns.set(ENV, freezes=[])
    assert done.returncode == 4, done.stdout
    record = turns.record(ENV, "provision")
    assert record["parameters"]["override_freeze"] == "the shop is down"
    assert "overridden: the shop is down" in json.dumps(record["checks"], ensure_ascii=False)


@pytest.fixture(scope="module")
def stopped(turns) -> subprocess.CompletedProcess[str]:
    """Break a run's lock during Terraform's apply; return the run's result."""
    first = turns.start("daybook", *PROVISION)
    wait_until(lambda: applying(turns, "provision"))
    holder = held(turns)
    second = turns.run("run", "teardown", "-p", "env", ENV)
    assert second.returncode == 8, second.stdout
    for fact in (holder["run"], holder["operator"], "provision · REHEARSAL", "--wait 10m"):
        assert fact in second.stdout
    turns.succeed("lock", "break", ENV, "--reason", "ann went home")
    output, _ = first.communicate(timeout=300)
    return subprocess.CompletedProcess(PROVISION, first.returncode, output)


def test_a_run_with_a_broken_lock_stops_and_reports_its_changes(turns, stopped):
    assert stopped.returncode == 8, stopped.stdout
    assert "ann went home" in stopped.stdout
    record = turns.record(ENV, "provision")
    assert (record["status"], record["phases"][-1]["name"]) == ("failed", "apply")
    broken = turns.record(ENV, "lock-break")
    assert broken["status"] == "succeeded"
    assert "ann went home" in json.dumps(broken["changes"])
    assert not held(turns)["held"]


def test_the_next_run_completes_the_work(turns, stopped):
    turns.step("provision", ENV)
    assert held(turns) == {"held": False}
