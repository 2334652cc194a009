"""Debian's images on EC2: which one a host was made from, and which is the newest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from daybook import aws
from daybook.target import Target

DEBIAN = "136693071363"
"""Debian's account: https://wiki.debian.org/Cloud/AmazonEC2Image"""
NAMES = ("debian-13-amd64-*", "debian-13-arm64-*")


@dataclass(frozen=True, order=True)
class Image:
    """An image, in the order of age. created: `2025-08-14`; "" when it is not offered any more."""

    created: str
    id: str
    name: str = ""


def newest(target: Target, instance_type: str) -> Image | None:
    """Return the newest Debian 13 that an instance type can run."""
    ec2 = aws.client(target, "ec2")
    [kind] = ec2.describe_instance_types(InstanceTypes=[instance_type])["InstanceTypes"]
    wanted = {
        "name": NAMES,
        "architecture": kind["ProcessorInfo"]["SupportedArchitectures"],
        "virtualization-type": ("hvm",),
    }
    filters = [{"Name": name, "Values": list(values)} for name, values in wanted.items()]
    found = ec2.describe_images(Owners=[DEBIAN], Filters=filters)["Images"]
    return max(map(_image, found), default=None)


def of_instances(target: Target, ids: Sequence[str]) -> dict[str, Image]:
    """Return the image that each instance was made from: `{"i-0abc": Image(…)}`."""
    ec2 = aws.client(target, "ec2")
    reservations = ec2.describe_instances(InstanceIds=list(ids))["Reservations"]
    used = {i["InstanceId"]: i["ImageId"] for r in reservations for i in r["Instances"]}
    # A filter, because an id that is gone would be an error.
    by_id = [{"Name": "image-id", "Values": sorted(set(used.values()))}]
    known = {each["ImageId"]: _image(each) for each in ec2.describe_images(Filters=by_id)["Images"]}
    return {id: known.get(image, Image("", image)) for id, image in used.items()}


def _image(found: Mapping[str, Any]) -> Image:
    return Image(found.get("CreationDate", "")[:10], found["ImageId"], found.get("Name", ""))
