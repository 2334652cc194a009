"""An instance's metadata: the tree served at 169.254.169.254.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-metadata.html
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

from daybook_sandbox.api import Cloud

ROLE_SESSION_S = 21600
INSTANCE_ROLES = "meta-data/iam/security-credentials/"


def lookup(cloud: Cloud, instance: Any, path: str) -> str | None:
    """Return the value at a path such as "meta-data/local-ipv4"; None if it does not exist.

    A folder lists its names, one per line, as on EC2; subfolders end with a slash.
    """
    leaves = _leaves(cloud, instance)
    if path == "meta-data/public-keys/" or path == "meta-data/public-keys":
        return f"0={instance.key_name}" if instance.key_name else None
    if path in leaves:
        return leaves[path]
    folder = path.rstrip("/") + "/" if path else ""
    below = [leaf.removeprefix(folder) for leaf in leaves if leaf.startswith(folder)]
    names = dict.fromkeys(name.partition("/")[0] + "/" * ("/" in name) for name in below)
    return "\n".join(names) or None


def role_of(cloud: Cloud, instance: Any) -> Any | None:
    """Return the role of the instance's profile."""
    profile = _profile(instance)
    return profile.roles[0] if profile and profile.roles else None


def assume_role(cloud: Cloud, instance: Any, role: Any) -> dict[str, str]:
    """Return new credentials of the instance's role in the metadata service's format."""
    session = cloud.sts.assume_role(
        instance.region_name, instance.id, role.arn, "", ROLE_SESSION_S, None
    )
    return {
        "Code": "Success",
        "LastUpdated": _stamp(datetime.now(UTC)),
        "Type": "AWS-HMAC",
        "AccessKeyId": session.access_key_id,
        "SecretAccessKey": session.secret_access_key,
        "Token": session.session_token,
        "Expiration": _stamp(session.expiration),
    }


def _leaves(cloud: Cloud, instance: Any) -> dict[str, str]:
    leaves = {
        "meta-data/ami-id": instance.image_id,
        "meta-data/ami-launch-index": str(instance.ami_launch_index),
        "meta-data/hostname": instance.private_dns_name,
        "meta-data/instance-action": "none",
        "meta-data/instance-id": instance.id,
        "meta-data/instance-life-cycle": "on-demand",
        "meta-data/instance-type": instance.instance_type,
        "meta-data/local-hostname": instance.private_dns_name,
        "meta-data/local-ipv4": instance.private_ip,
        "meta-data/mac": instance.nics[0].mac_address,
        "meta-data/placement/availability-zone": instance.availability_zone,
        "meta-data/placement/region": instance.region_name,
        "meta-data/security-groups": "\n".join(_group_names(instance)),
        "meta-data/services/domain": "amazonaws.com",
        "meta-data/services/partition": "aws",
        "dynamic/instance-identity/document": _identity(cloud, instance),
    }
    return leaves | _interface(instance) | _optional(cloud, instance)


def _interface(instance: Any) -> dict[str, str]:
    nic = instance.nics[0]
    folder = f"meta-data/network/interfaces/macs/{nic.mac_address}/"
    return {
        f"{folder}device-number": "0",
        f"{folder}interface-id": nic.id,
        f"{folder}local-ipv4s": instance.private_ip,
        f"{folder}security-group-ids": "\n".join(sorted(group.id for group in nic.group_set)),
        f"{folder}subnet-id": instance.subnet_id,
        f"{folder}vpc-id": instance.vpc_id,
    }


def _optional(cloud: Cloud, instance: Any) -> dict[str, str]:
    """Return the leaves that only some instances have."""
    leaves = {}
    if public_ip := cloud.public_ip(instance):
        leaves["meta-data/public-ipv4"] = public_ip
    key = instance.ec2_backend.key_pairs.get(instance.key_name)
    if key:
        leaves["meta-data/public-keys/0/openssh-key"] = _text(key.material_public)
    if role := role_of(cloud, instance):
        leaves["meta-data/iam/info"] = _profile_info(_profile(instance))
        leaves[INSTANCE_ROLES + role.name] = ""
    if instance.metadata_options.instance_metadata_tags == "enabled":
        tags = instance.get_tags()
        leaves |= {f"meta-data/tags/instance/{tag['key']}": tag["value"] for tag in tags}
    if instance.user_data:
        leaves["user-data"] = base64.b64decode(str(instance.user_data)).decode("utf-8", "replace")
    return leaves


def _profile(instance: Any) -> Any | None:
    associations = instance.ec2_backend.iam_instance_profile_associations
    association = associations.get(instance.id)
    return association.iam_instance_profile if association else None


def _profile_info(profile: Any) -> str:
    return json.dumps(
        {
            "Code": "Success",
            "LastUpdated": _stamp(datetime.now(UTC)),
            "InstanceProfileArn": profile.arn,
            "InstanceProfileId": profile.id,
        },
        indent=2,
    )


def _identity(cloud: Cloud, instance: Any) -> str:
    return json.dumps(
        {
            "accountId": cloud.account,
            "architecture": instance.architecture,
            "availabilityZone": instance.availability_zone,
            "imageId": instance.image_id,
            "instanceId": instance.id,
            "instanceType": instance.instance_type,
            "pendingTime": _stamp(instance.launch_time),
            "privateIp": instance.private_ip,
            "region": instance.region_name,
            "version": "2017-09-30",
        },
        indent=2,
    )


def _group_names(instance: Any) -> list[str]:
    return sorted(group.name for group in instance.nics[0].group_set)


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
