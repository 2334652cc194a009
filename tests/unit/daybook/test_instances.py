"""Instances, their disks and final snapshots, against moto in this process."""

from __future__ import annotations

import time
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from daybook import settings
from daybook.environment import Environment
from daybook.resources import instances
from daybook.target import Target

ROOT = Path(__file__).parents[3]
TAGS = [{"Key": "app", "Value": "hello"}, {"Key": "environment", "Value": "staging"}]


@pytest.fixture
def here(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws():
        yield Target("sandbox", "123456789012", "us-east-1", {})


def environment(here, name: str = "staging") -> Environment:
    return Environment(name, ROOT, settings.load(ROOT, name), here)


@pytest.fixture
def ec2(here):
    return boto3.client("ec2", region_name=here.region)


def launch(ec2, name: str, tags=TAGS) -> str:
    marks = [*tags, {"Key": "Name", "Value": name}]
    found = ec2.run_instances(
        ImageId="ami-12345678",
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[{"ResourceType": "instance", "Tags": marks}],
    )
    return found["Instances"][0]["InstanceId"]


def host(here) -> instances.Instance:
    [found] = instances.instances_of(environment(here))
    return found


def test_instances_are_found_by_tags_unless_terminated(here, ec2):
    launch(ec2, "web-2")
    launch(ec2, "web-1")
    ec2.terminate_instances(InstanceIds=[launch(ec2, "gone")])
    launch(ec2, "other", tags=[TAGS[0], {"Key": "environment", "Value": "production"}])
    found = instances.instances_of(environment(here))
    assert [(each.name, each.state) for each in found] == [
        ("web-1", "running"),
        ("web-2", "running"),
    ]
    [disk] = found[0].disks
    assert disk.id.startswith("vol-")
    assert (disk.size_gib, disk.snapshot) == (8, "")


def test_protection_is_reported_and_removed(here, ec2):
    instance = launch(ec2, "web-1")
    ec2.modify_instance_attribute(InstanceId=instance, DisableApiTermination={"Value": True})
    assert host(here).is_protected
    instances.unprotect(here, host(here))
    assert not host(here).is_protected


def test_a_snapshot_is_used_only_while_the_host_is_stopped(here, ec2):
    instance = launch(ec2, "web-1")
    instances.stop(here, [instance])
    assert host(here).state == "stopped"
    # Times are whole seconds: a snapshot is used from the second after the launch.
    launched = int(time.time())
    while int(time.time()) == launched:
        time.sleep(0.02)
    made = instances.snapshot(here, host(here), host(here).disks[0], {"app": "hello"})
    instances.wait(here, [made])
    assert host(here).disks[0].snapshot == made
    ec2.start_instances(InstanceIds=[instance])
    assert host(here).disks[0].snapshot == ""


def test_a_snapshot_without_the_tag_is_not_used(here, ec2):
    instances.stop(here, [launch(ec2, "web-1")])
    ec2.create_snapshot(VolumeId=host(here).disks[0].id)
    assert host(here).disks[0].snapshot == ""


def test_snapshots_are_listed_with_their_disks(here, ec2):
    launch(ec2, "web-1")
    tags = {tag["Key"]: tag["Value"] for tag in TAGS}
    made = instances.snapshot(here, host(here), host(here).disks[0], tags)
    device = host(here).disks[0].device
    assert instances.snapshots(environment(here)) == [(made, f"web-1 {device}, 8 GiB")]
    assert instances.snapshots(environment(here, "production")) == []


def test_a_stopped_host_reports_the_reason_and_is_started(here, ec2):
    id = launch(ec2, "web-1")
    ec2.stop_instances(InstanceIds=[id])
    stopped = host(here)
    assert stopped.state == "stopped"
    assert "UserInitiatedShutdown" in stopped.reason
    assert "UserInitiatedShutdown" in instances.health(here, id)
    instances.start(here, [id])
    assert host(here).state == "running"
    assert "system ok, instance ok" in instances.health(here, id)
