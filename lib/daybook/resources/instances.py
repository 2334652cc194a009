"""An environment's instances and the disks on them: what a teardown would lose."""

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
"""How often and how many times to ask whether an instance has stopped: five minutes."""
COPY = {"every_s": 5, "tries": 720}
"""The same for a snapshot, which copies a whole disk: an hour."""


@dataclass(frozen=True)
class Disk:
    """One EBS volume. snapshot: one that holds all that is on it already, or empty."""

    id: str
    device: str
    size_gib: int
    snapshot: str = ""


@dataclass(frozen=True)
class Instance:
    """One instance with its disks. is_protected: against termination through the API."""

    id: str
    name: str
    state: str
    is_protected: bool
    disks: tuple[Disk, ...]
    reason: str = ""
    """Why it is in this state, as EC2 says: `Client.UserInitiatedShutdown: …`."""


def instances_of(environment: Environment) -> tuple[Instance, ...]:
    """Return the environment's instances that are not terminated, by their tags."""
    ec2 = environment.client("ec2")
    filters = [*tag_filters(environment), {"Name": "instance-state-name", "Values": list(ALIVE)}]
    pages = ec2.get_paginator("describe_instances").paginate(Filters=filters)
    found = [
        each for page in pages for group in page["Reservations"] for each in group["Instances"]
    ]
    return tuple(sorted((_host(ec2, each) for each in found), key=lambda host: host.name))


def tag_filters(environment: Environment) -> list[dict[str, Any]]:
    """Return the EC2 filters for resources with the environment's tags."""
    return [
        {"Name": "tag:app", "Values": [environment.settings.app]},
        {"Name": "tag:environment", "Values": [environment.name]},
    ]


def unprotect(target: Target, host: Instance) -> None:
    """Let the instance be terminated through the API."""
    ec2 = aws.client(target, "ec2")
    ec2.modify_instance_attribute(InstanceId=host.id, DisableApiTermination={"Value": False})


def stop(target: Target, ids: list[str]) -> None:
    """Stop instances and wait until they are, so that nothing is written to their disks."""
    aws.client(target, "ec2").stop_instances(InstanceIds=ids)
    aws.wait_for(target, "ec2", "instance_stopped", InstanceIds=ids, **STOP)


def start(target: Target, ids: list[str]) -> None:
    """Start stopped instances, also those that still stop; wait until they run."""
    ec2 = aws.client(target, "ec2")
    ec2.get_waiter("instance_stopped").wait(InstanceIds=ids, WaiterConfig=STOP)
    ec2.start_instances(InstanceIds=ids)
    ec2.get_waiter("instance_running").wait(InstanceIds=ids, WaiterConfig=STOP)


def health(target: Target, id: str) -> str:
    """Return what EC2 says of an instance: `running; system ok, instance impaired`."""
    ec2 = aws.client(target, "ec2")
    answer = ec2.describe_instances(InstanceIds=[id])
    [found] = [each for group in answer["Reservations"] for each in group["Instances"]]
    said = [": ".join(filter(None, [found["State"]["Name"], _reason(found)]))]
    for each in ec2.describe_instance_status(InstanceIds=[id])["InstanceStatuses"]:
        system, instance = each["SystemStatus"]["Status"], each["InstanceStatus"]["Status"]
        said.append(f"system {system}, instance {instance}")
    return "; ".join(said)


def snapshot(target: Target, host: Instance, disk: Disk, tags: Mapping[str, str]) -> str:
    """Begin a snapshot of a disk and return its id; `wait` says when it is whole."""
    own = {**tags, "Name": f"{host.name} {disk.device}", "final": "true"}
    marks = [{"Key": key, "Value": value} for key, value in own.items()]
    answer = aws.client(target, "ec2").create_snapshot(
        VolumeId=disk.id,
        Description=f"{disk.device} of {host.name} ({host.id}) before its teardown",
        TagSpecifications=[{"ResourceType": "snapshot", "Tags": marks}],
    )
    return answer["SnapshotId"]


def wait(target: Target, snapshots: Iterable[str]) -> None:
    """Wait until snapshots are whole; until then a disk must not go."""
    for each in snapshots:
        aws.wait_for(target, "ec2", "snapshot_completed", SnapshotIds=[each], **COPY)


def snapshots(environment: Environment) -> list[tuple[str, str]]:
    """Return the environment's snapshots: `[("snap-0abc", "web-1 /dev/xvda, 20 GiB")]`."""
    pages = (
        environment.client("ec2")
        .get_paginator("describe_snapshots")
        .paginate(OwnerIds=["self"], Filters=tag_filters(environment))
    )
    found = [each for page in pages for each in page["Snapshots"]]
    return [
        (each["SnapshotId"], f"{_tags(each).get('Name', '')}, {each['VolumeSize']} GiB")
        for each in sorted(found, key=lambda each: each["StartTime"])
    ]


def _host(ec2: Any, found: Mapping[str, Any]) -> Instance:
    attribute = ec2.describe_instance_attribute(
        InstanceId=found["InstanceId"], Attribute="disableApiTermination"
    )
    # Nothing was written since it was last started if it is stopped; a start moves LaunchTime.
    is_still = found["State"]["Name"] == "stopped"
    return Instance(
        found["InstanceId"],
        _tags(found).get("Name", found["InstanceId"]),
        found["State"]["Name"],
        attribute["DisableApiTermination"]["Value"],
        tuple(_disks(ec2, found["InstanceId"], found["LaunchTime"] if is_still else None)),
        _reason(found),
    )


def _reason(found: Mapping[str, Any]) -> str:
    said = found.get("StateReason", {})
    facts = (said.get("Code"), said.get("Message"), found.get("StateTransitionReason"))
    return "; ".join(dict.fromkeys(filter(None, facts)))


def _disks(ec2: Any, instance: str, still_since: datetime | None) -> Iterator[Disk]:
    attached = [{"Name": "attachment.instance-id", "Values": [instance]}]
    volumes = ec2.describe_volumes(Filters=attached)["Volumes"]
    for volume in sorted(volumes, key=lambda volume: volume["Attachments"][0]["Device"]):
        last = _final(ec2, volume["VolumeId"], still_since) if still_since else ""
        device = volume["Attachments"][0]["Device"]
        yield Disk(volume["VolumeId"], device, volume["Size"], last)


def _final(ec2: Any, volume: str, since: datetime) -> str:
    """Return the snapshot that an earlier teardown made of a disk that was not used since."""
    wanted = [{"Name": "volume-id", "Values": [volume]}, {"Name": "tag:final", "Values": ["true"]}]
    found = ec2.describe_snapshots(OwnerIds=["self"], Filters=wanted)["Snapshots"]
    usable = [each for each in found if each["StartTime"] > since and each["State"] != "error"]
    return max(usable, key=lambda each: each["StartTime"])["SnapshotId"] if usable else ""


def _tags(found: Mapping[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in found.get("Tags", ())}
