"""Provision and hosts that do not run: what is started, what is not, and what is said."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError

from daybook import aws, infrastructure, probe
from daybook.environment import Environment
from daybook.errors import ApplyFailed, Locked, VerifyFailed
from daybook.plan import Change
from daybook.resources import instances
from daybook.settings import Settings
from daybook.steps.provision import Provision
from daybook.target import Target
from daybook.terraform import SavedPlan

SETTINGS = Settings(
    app="hello",
    account="sandbox",
    dns_zone="daybook.test",
    domains=("staging.daybook.test",),
    vpc_cidr="10.20.0.0/16",
    ssh_allowed_cidrs=(),
)
REASON = "Client.UserInitiatedShutdown: User initiated shutdown"


def host(number: int, state: str) -> instances.Instance:
    return instances.Instance(f"i-{number}", f"hello-staging-{number}", state, False, (), REASON)


@pytest.fixture
def step(monkeypatch):
    hosts = [host(1, "running"), host(2, "stopped"), host(3, "stopping"), host(4, "stopped")]
    monkeypatch.setattr(instances, "instances_of", lambda _environment: hosts)
    known = ' "i-1" "i-2" "i-3" '
    monkeypatch.setattr(aws, "state_text", lambda *_: known)
    step = object.__new__(Provision)
    target = Target("sandbox", "123456789012", "us-east-1", {})
    step._environment = Environment("staging", Path(), SETTINGS, target)
    step.run = SimpleNamespace(environment=step._environment)
    step.lock = SimpleNamespace(verify_held=lambda: None)
    return step


def plan(*changes: Change) -> SavedPlan:
    return SavedPlan("Plan for staging", changes, {})


def test_stopped_hosts_of_the_state_are_started_and_no_others(step):
    assert [each.id for each in step._stopped_hosts(plan())] == ["i-2", "i-3"]


@pytest.mark.parametrize("action", ["destroy", "replace"])
def test_a_host_that_the_plan_ends_is_not_started_before(step, action):
    losing = Change(action, 'aws_instance.host["2"]', name="hello-staging-2")
    assert [each.id for each in step._stopped_hosts(plan(losing))] == ["i-3"]
    other = Change(action, 'aws_eip.host["2"]', name="hello-staging-2")
    assert [each.id for each in step._stopped_hosts(plan(other))] == ["i-2", "i-3"]


def test_when_ec2_refuses_the_error_says_what_stopped_the_host(step, monkeypatch):
    error = {"Code": "InsufficientInstanceCapacity", "Message": "no capacity in us-east-1a"}

    def refuse(*_):
        raise ClientError({"Error": error}, "StartInstances")

    monkeypatch.setattr(instances, "start", refuse)
    with pytest.raises(ApplyFailed) as caught:
        step._start([host(2, "stopped")])
    assert caught.value.exit_code == 6
    for fact in ("hello-staging-2", REASON, "no capacity in us-east-1a", "run this step again"):
        assert fact in str(caught.value)


def test_a_host_that_does_not_answer_is_named_with_its_state(step, monkeypatch):
    def never(*_args, **_options):
        raise VerifyFailed("SSH on hello-staging-1 was not seen.")

    monkeypatch.setattr(probe, "wait_until", never)
    monkeypatch.setattr(instances, "health", lambda *_: "running; system ok, instance impaired")
    with pytest.raises(VerifyFailed) as caught:
        step._ssh_row({"id": "i-1", "name": "hello-staging-1", "public_ip": "198.51.100.7"})
    assert "(i-1) is running; system ok, instance impaired" in str(caught.value)
    assert "start it again: daybook run provision -p env staging" in caught.value.next


def test_a_lock_lost_during_terraform_s_apply_lets_nothing_be_written_after_it(step, monkeypatch):
    done, is_broken = [], False

    def apply(*_):
        nonlocal is_broken
        done.append("applied")
        is_broken = True

    def verify_held():
        if is_broken:
            raise Locked("the lock was broken")

    step.lock.verify_held = verify_held
    step.terraform = step.run.changed = None
    monkeypatch.setattr(step, "_stopped_hosts", lambda _plan: [])
    monkeypatch.setattr(step, "_extra_changes", list)
    monkeypatch.setattr(infrastructure, "apply", apply)
    monkeypatch.setattr(step, "_save_host_keys", lambda: done.append("host keys"))
    with pytest.raises(Locked):
        step.apply_plan(plan())
    assert done == ["applied"]
