"""Hosts that were stopped, by a teardown that was cut off or by hand: provision starts them."""

from __future__ import annotations

import re

import pytest

ENV = "faults"

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(1500)]


@pytest.fixture(autouse=True)
def provisioned(ground) -> None:
    if [host.state for host in ground.hosts()] != ["running"]:
        ground.finish("provision")


def stop(ground, *, wait: bool = True) -> str:
    [host] = ground.hosts()
    ec2 = ground.client("ec2")
    ec2.stop_instances(InstanceIds=[host.id])
    if wait:
        ec2.get_waiter("instance_stopped").wait(InstanceIds=[host.id])
    return host.id


@pytest.mark.parametrize("wait", [True, False], ids=["stopped", "stopping"])
@pytest.mark.attack("F10", "a host is stopped by hand: provision waits for its SSH for ever")
def test_provision_shows_and_starts_a_stopped_host(ground, wait):
    id = stop(ground, wait=wait)
    plan = ground.sandbox.run("run", "provision", "-p", "env", ENV)
    assert plan.returncode == 4, plan.stdout
    assert re.search(rf"start\b.*{id}", plan.stdout), plan.stdout
    [digest] = set(re.findall(r"plan-[0-9a-f]{32}", plan.stdout))
    said = ground.sandbox.step("provision", ENV, approve=digest)
    assert "started" in said
    [host] = ground.hosts()
    assert (host.id, host.state) == (id, "running")
    assert "No changes" in ground.finish("provision")


@pytest.mark.attack("F10", "a teardown is killed when its hosts are stopped: provision never ends")
def test_provision_after_a_teardown_that_was_killed(ground):
    [before] = ground.hosts()
    ground.strike("teardown", "kernel, SIGKILL", when=r"stopped +faulty")
    assert [host.state for host in ground.hosts()] == ["stopped"]
    said = ground.finish("provision")
    [host] = ground.hosts()
    assert host.state == "running", said
    assert ground.orphans() == []
    assert host.id == before.id
    assert "started" in said
    ground.finish("teardown")
    assert ground.left() == []


def test_a_host_that_was_terminated_by_hand_is_made_anew(ground):
    [host] = ground.hosts()
    ec2 = ground.client("ec2")
    ec2.modify_instance_attribute(InstanceId=host.id, DisableApiTermination={"Value": False})
    ec2.terminate_instances(InstanceIds=[host.id])
    ec2.get_waiter("instance_terminated").wait(InstanceIds=[host.id])
    ground.finish("provision")
    [new] = ground.hosts()
    assert new.state == "running"
    assert new.id != host.id
