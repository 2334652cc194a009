"""Debian's images on EC2: the image of each host, and the newest one."""

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
    """An image; sorts by age. created: `2025-08-14`; "" if it is no longer available."""

    created: str
    id: str
    name: str = ""


def newest(target: Target, instance_type: str) -> Image | None:
    """Return the newest Debian 13 image for an instance type."""
    ec2 = aws.client(target, "ec2")
    [kind] = ec2.describe_instance_types(InstanceTypes=[instance_type])["InstanceTypes"]
    criteria = {
        "name": NAMES,
        "architecture": kind["ProcessorInfo"]["SupportedArchitectures"],
        "virtualization-type": ("hvm",),
    }
    filters = [{"Name": name, "Values": list(values)} for name, values in criteria.items()]
    images = ec2.describe_images(Owners=[DEBIAN], Filters=filters)["Images"]
    return max(map(_image, images), default=None)


def of_instances(target: Target, ids: Sequence[str]) -> dict[str, Image]:
    """Return the image of each instance: `{"i-0abc": Image(…)}`."""
    ec2 = aws.client(target, "ec2")
    reservations = ec2.describe_instances(InstanceIds=list(ids))["Reservations"]
    used = {i["InstanceId"]: i["ImageId"] for r in reservations for i in r["Instances"]}
    # A filter, because the id of a deleted image would be an error.
    by_id = [{"Name": "image-id", "Values": sorted(set(used.values()))}]
    images = ec2.describe_images(Filters=by_id)["Images"]
    known = {image["ImageId"]: _image(image) for image in images}
    return {id: known.get(image_id, Image("", image_id)) for id, image_id in used.items()}


def _image(description: Mapping[str, Any]) -> Image:
    return Image(
        description.get("CreationDate", "")[:10],
        description["ImageId"],
        description.get("Name", ""),
    )
