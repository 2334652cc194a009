"""Hosts stopped manually or by an interrupted teardown: provision starts them."""

from __future__ import annotations

import re

import pytest

ENV = "faults"

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(1500)]


@pytest.fixture(autouse=True)
def provisioned(faulty) -> None:
    if [host.state for host in faulty.hosts()] != ["running"]:
        faulty.finish("provision")


def stop(faulty, *, wait: bool = True) -> str:
    [host] = faulty.hosts()
    ec2 = faulty.client("ec2")
    ec2.stop_instances(InstanceIds=[host.id])
    if wait:
        ec2.get_waiter("instance_stopped").wait(InstanceIds=[host.id])
    return host.id


@pytest.mark.parametrize("wait", [True, False], ids=["stopped", "stopping"])
@pytest.mark.attack("F10", "a host is stopped by hand: provision waits for its SSH for ever")
def test_provision_shows_and_starts_a_stopped_host(faulty, wait):
    id = stop(faulty, wait=wait)
    plan = faulty.sandbox.run("run", "provision", "-p", "env", ENV)
    assert plan.returncode == 4, plan.stdout
    assert re.search(rf"start\b.*{id}", plan.stdout), plan.stdout
    [digest] = set(re.findall(r"plan-[0-9a-f]{32}", plan.stdout))
    output = faulty.sandbox.step("provision", ENV, approve=digest)
    assert "started" in output
    [host] = faulty.hosts()
    assert (host.id, host.state) == (id, "running")
    assert "No changes" in faulty.finish("provision")


@pytest.mark.attack("F10", "a teardown is killed when its hosts are stopped: provision never ends")
def test_provision_after_a_killed_teardown(faulty):
    [before] = faulty.hosts()
    faulty.kill_step("teardown", "kernel, SIGKILL", when=r"stopped +faulty")
    assert [host.state for host in faulty.hosts()] == ["stopped"]
    output = faulty.finish("provision")
    [host] = faulty.hosts()
    assert host.state == "running", output
    assert faulty.orphans() == []
    assert host.id == before.id
    assert "started" in output
    faulty.finish("teardown")
    assert faulty.resources() == []


def test_a_manually_terminated_host_is_replaced(faulty):
    [host] = faulty.hosts()
    ec2 = faulty.client("ec2")
    ec2.modify_instance_attribute(InstanceId=host.id, DisableApiTermination={"Value": False})
    ec2.terminate_instances(InstanceIds=[host.id])
    ec2.get_waiter("instance_terminated").wait(InstanceIds=[host.id])
    faulty.finish("provision")
    [new] = faulty.hosts()
    assert new.state == "running"
    assert new.id != host.id
