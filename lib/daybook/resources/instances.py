"""An environment's instances and their disks, which a teardown destroys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from daybook import aws
from daybook.environment import Environment
from daybook.target import Target

ALIVE = ("pending", "running", "stopping", "stopped")
STOP = {"every_s": 2, "tries": 150}
"""Polling interval and attempts for an instance to stop or start: five minutes."""
COPY = {"every_s": 5, "tries": 720}
"""The same for a snapshot, which copies a whole disk: one hour."""


@dataclass(frozen=True)
class Disk:
    """One EBS volume. snapshot: an existing snapshot of its current data, or ""."""

    id: str
    device: str
    size_gib: int
    snapshot: str = ""


@dataclass(frozen=True)
class Instance:
    """One instance with its disks. is_protected: has termination protection."""

    id: str
    name: str
    state: str
    is_protected: bool
    disks: tuple[Disk, ...]
    reason: str = ""
    """The reason for the state, from EC2: `Client.UserInitiatedShutdown: …`."""


def instances_of(environment: Environment) -> tuple[Instance, ...]:
    """Return the environment's instances, found by tags; terminated ones are excluded."""
    ec2 = environment.client("ec2")
    filters = [*tag_filters(environment), {"Name": "instance-state-name", "Values": list(ALIVE)}]
    pages = ec2.get_paginator("describe_instances").paginate(Filters=filters)
    instances = [
        _instance(ec2, description)
        for page in pages
        for reservation in page["Reservations"]
        for description in reservation["Instances"]
    ]
    return tuple(sorted(instances, key=lambda instance: instance.name))


def tag_filters(environment: Environment) -> list[dict[str, Any]]:
    """Return the EC2 filters for the environment's tags."""
    return [
        {"Name": "tag:app", "Values": [environment.settings.app]},
        {"Name": "tag:environment", "Values": [environment.name]},
    ]


def unprotect(target: Target, host: Instance) -> None:
    """Remove an instance's termination protection."""
    ec2 = aws.client(target, "ec2")
    ec2.modify_instance_attribute(InstanceId=host.id, DisableApiTermination={"Value": False})


def stop(target: Target, ids: list[str]) -> None:
    """Stop instances and wait until they are stopped, so that nothing writes to their disks."""
    aws.client(target, "ec2").stop_instances(InstanceIds=ids)
    aws.wait_for(target, "ec2", "instance_stopped", InstanceIds=ids, **STOP)


def start(target: Target, ids: list[str]) -> None:
    """Start stopped or stopping instances; wait until they run."""
    aws.wait_for(target, "ec2", "instance_stopped", InstanceIds=ids, **STOP)
    aws.client(target, "ec2").start_instances(InstanceIds=ids)
    aws.wait_for(target, "ec2", "instance_running", InstanceIds=ids, **STOP)


def health(target: Target, id: str) -> str:
    """Return an instance's state and status checks: `running; system ok, instance impaired`."""
    ec2 = aws.client(target, "ec2")
    answer = ec2.describe_instances(InstanceIds=[id])
    [description] = [i for group in answer["Reservations"] for i in group["Instances"]]
    facts = [": ".join(filter(None, [description["State"]["Name"], _reason(description)]))]
    for status in ec2.describe_instance_status(InstanceIds=[id])["InstanceStatuses"]:
        system, instance = status["SystemStatus"]["Status"], status["InstanceStatus"]["Status"]
        facts.append(f"system {system}, instance {instance}")
    return "; ".join(facts)


def snapshot(target: Target, host: Instance, disk: Disk, tags: Mapping[str, str]) -> str:
    """Start a snapshot of a disk and return its id; `wait` returns when it is complete."""
    all_tags = {**tags, "Name": f"{host.name} {disk.device}", "final": "true"}
    tag_list = [{"Key": key, "Value": value} for key, value in all_tags.items()]
    answer = aws.client(target, "ec2").create_snapshot(
        VolumeId=disk.id,
        Description=f"{disk.device} of {host.name} ({host.id}) before teardown",
        TagSpecifications=[{"ResourceType": "snapshot", "Tags": tag_list}],
    )
    return answer["SnapshotId"]


def wait(target: Target, snapshots: Iterable[str]) -> None:
    """Wait until snapshots are complete; delete no disk before."""
    for id in snapshots:
        aws.wait_for(target, "ec2", "snapshot_completed", SnapshotIds=[id], **COPY)


def snapshots(environment: Environment) -> list[tuple[str, str]]:
    """Return the environment's snapshots: `[("snap-0abc", "web-1 /dev/xvda, 20 GiB")]`."""
    pages = (
        environment.client("ec2")
        .get_paginator("describe_snapshots")
        .paginate(OwnerIds=["self"], Filters=tag_filters(environment))
    )
    listed = [snapshot for page in pages for snapshot in page["Snapshots"]]
    return [
        (snapshot["SnapshotId"], f"{_tags(snapshot).get('Name', '')}, {snapshot['VolumeSize']} GiB")
        for snapshot in sorted(listed, key=lambda snapshot: snapshot["StartTime"])
    ]


def _instance(ec2: Any, description: Mapping[str, Any]) -> Instance:
    id, state = description["InstanceId"], description["State"]["Name"]
    attribute = ec2.describe_instance_attribute(InstanceId=id, Attribute="disableApiTermination")
    # A snapshot made after the last start, LaunchTime, of a stopped instance is complete.
    started = description["LaunchTime"] if state == "stopped" else None
    return Instance(
        id,
        _tags(description).get("Name", id),
        state,
        attribute["DisableApiTermination"]["Value"],
        tuple(_disks(ec2, id, started)),
        _reason(description),
    )


def _reason(description: Mapping[str, Any]) -> str:
    reason = description.get("StateReason", {})
    facts = (reason.get("Code"), reason.get("Message"), description.get("StateTransitionReason"))
    return "; ".join(dict.fromkeys(filter(None, facts)))


def _disks(ec2: Any, instance: str, started: datetime | None) -> Iterator[Disk]:
    """Yield an instance's disks. started: the last start of a stopped instance, else None."""
    attached = [{"Name": "attachment.instance-id", "Values": [instance]}]
    volumes = ec2.describe_volumes(Filters=attached)["Volumes"]
    for volume in sorted(volumes, key=lambda volume: volume["Attachments"][0]["Device"]):
        snapshot = _final_snapshot(ec2, volume["VolumeId"], started) if started else ""
        device = volume["Attachments"][0]["Device"]
        yield Disk(volume["VolumeId"], device, volume["Size"], snapshot)


def _final_snapshot(ec2: Any, volume: str, started: datetime) -> str:
    """Return the snapshot of an earlier teardown, if the disk was not used since, else ""."""
    filters = [{"Name": "volume-id", "Values": [volume]}, {"Name": "tag:final", "Values": ["true"]}]
    snapshots = ec2.describe_snapshots(OwnerIds=["self"], Filters=filters)["Snapshots"]
    usable = [s for s in snapshots if s["StartTime"] > started and s["State"] != "error"]
    return max(usable, key=lambda snapshot: snapshot["StartTime"])["SnapshotId"] if usable else ""


def _tags(description: Mapping[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in description.get("Tags", ())}
