"""What an interrupted apply made and could not write into Terraform's state; and its removal.

Terraform cancels the calls that are under way when it is interrupted. One that AWS had carried out
by then leaves a thing that no state knows: the next apply makes another, or fails at its name.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any

from botocore.exceptions import ClientError

from daybook import aws
from daybook.aws import instances, owned
from daybook.settings import Settings
from daybook.target import Target

OURS = {"Name": "tag:managed_by", "Values": ["daybook"]}
"""What only Terraform tags: things that were made by hand are not for us to remove."""
ROUTE_TABLE_ID = len("rtb-0123456789abcdef0")


def unmanaged(target: Target, settings: Settings, env: str, state: str) -> list[str]:
    """Return what exists in the environment's name and is not in this state, ours or not."""
    found = owned.owned_resources(target, settings.app, env, settings.zone, settings.names)
    return [thing for thing in found if not _is_known(thing, state)]


def find(target: Target, settings: Settings, env: str, state: str) -> list[str]:
    """Return the strangers that an interrupted apply left, in the order of their removal."""
    found = [
        thing
        for thing in unmanaged(target, settings, env, state)
        if _kind(thing) in _REMOVE and _is_ours(target, settings, env, thing, state)
    ]
    parts = _parts(target, settings, env, state)
    found += [thing for thing in parts if f'"{_id(thing)}"' not in state]
    kinds = list(_REMOVE)
    return sorted(found, key=lambda thing: kinds.index(_kind(thing)))


def remove(target: Target, settings: Settings, thing: str) -> None:
    """Delete one of what `find` gives; one that went with another is no error."""
    try:
        _REMOVE[_kind(thing)](target, settings, _id(thing))
    except ClientError as err:
        code = err.response["Error"]["Code"]
        if not code.endswith((".NotFound", "NoSuchEntity", "ResourceNotFoundException")):
            raise


def _kind(thing: str) -> str:
    return thing.rpartition(" ")[0]


def _id(thing: str) -> str:
    return thing.rpartition(" ")[2]


def _is_known(thing: str, state: str) -> bool:
    """Records are in a state by zone, name and type: their bare names are also outputs."""
    if _kind(thing).endswith(" record"):
        return f'_{_id(thing)}_{_kind(thing).split()[0]}"' in state
    return f'"{_id(thing)}"' in state


def _parts(target: Target, settings: Settings, env: str, state: str) -> Iterator[str]:
    """Give what only exists in or beside a thing of the state: without that one it is no obstacle.

    AWS refuses to make each of these a second time.
    """
    ec2, filters = aws.client(target, "ec2"), [*instances.mine(settings.app, env), OURS]
    for rule in owned.rules(target, settings.app, env):
        if rule.managed_by == "daybook" and f'"{rule.group}"' in state:
            yield f"security group rule {rule.id}"
    for table in ec2.describe_route_tables(Filters=filters)["RouteTables"]:
        if f'"{table["RouteTableId"]}"' not in state:
            continue
        for association in table["Associations"]:
            if not association.get("Main"):
                yield f"route table association {association['RouteTableAssociationId']}"
        for route in table["Routes"]:
            if route.get("GatewayId", "").startswith("igw-"):
                destination = route["DestinationCidrBlock"]
                yield f"route {_route_id(table['RouteTableId'], destination)}"
    for log in ec2.describe_flow_logs(Filters=filters)["FlowLogs"]:
        yield f"flow log {log['FlowLogId']}"


def _route_id(table: str, destination: str) -> str:
    """Return the id that Terraform's provider gives a route: `r-rtb-0abc1080289494`."""
    return f"r-{table}{zlib.crc32(destination.encode())}"


def _is_ours(target: Target, settings: Settings, env: str, thing: str, state: str) -> bool:
    """Tell whether Terraform made it, for this environment, and it goes with nothing else."""
    kind, id = _kind(thing), _id(thing)
    if kind == "A record":
        values = {each["Value"] for each in _record(target, settings, id)["ResourceRecords"]}
        return values <= set(_addresses(target, settings, env))
    if kind == "log group":
        logs = aws.client(target, "logs")
        [group] = logs.describe_log_groups(logGroupNamePrefix=id, limit=1)["logGroups"]
        answer = logs.list_tags_for_resource(resourceArn=group["arn"].removesuffix(":*"))
        return answer["tags"].get("managed_by") == "daybook"
    if kind in ("role", "instance profile"):
        iam = aws.client(target, "iam")
        if kind == "role":
            found = iam.get_role(RoleName=id)["Role"]
        else:
            found = iam.get_instance_profile(InstanceProfileName=id)["InstanceProfile"]
        return {"Key": "managed_by", "Value": "daybook"} in found.get("Tags", ())
    ec2, filters = aws.client(target, "ec2"), [*instances.mine(settings.app, env), OURS]
    if kind == "instance":
        return bool(ec2.describe_instances(InstanceIds=[id], Filters=filters)["Reservations"])
    call, items, key = owned.TAGGED[kind]
    found = [each for each in getattr(ec2, call)(Filters=filters)[items] if each[key] == id]
    return any(not _goes_with_another(each, state) for each in found)


def _goes_with_another(found: dict[str, Any], state: str) -> bool:
    """Tell of volumes and interfaces in use, and of an address that a cut state knows by its id."""
    is_used = "in-use" in (found.get("State"), found.get("Status"))
    return is_used or f'"{found.get("AllocationId")}"' in state


def _addresses(target: Target, settings: Settings, env: str) -> Iterator[str]:
    filters = [*instances.mine(settings.app, env), OURS]
    for each in aws.client(target, "ec2").describe_addresses(Filters=filters)["Addresses"]:
        yield each["PublicIp"]


def _record(target: Target, settings: Settings, name: str) -> dict[str, Any]:
    [found] = aws.client(target, "route53").list_resource_record_sets(
        HostedZoneId=aws.zone_id(target, settings.zone),
        StartRecordName=name,
        StartRecordType="A",
        MaxItems="1",
    )["ResourceRecordSets"]
    return found


def _instance(target: Target, _settings: Settings, id: str) -> None:
    ec2 = aws.client(target, "ec2")
    ec2.modify_instance_attribute(InstanceId=id, DisableApiTermination={"Value": False})
    ec2.terminate_instances(InstanceIds=[id])
    aws.wait_for(target, "ec2", "instance_terminated", InstanceIds=[id], **instances.STOP)


def _a_record(target: Target, settings: Settings, name: str) -> None:
    change = {"Action": "DELETE", "ResourceRecordSet": _record(target, settings, name)}
    aws.client(target, "route53").change_resource_record_sets(
        HostedZoneId=aws.zone_id(target, settings.zone), ChangeBatch={"Changes": [change]}
    )


def _role(target: Target, _settings: Settings, name: str) -> None:
    iam = aws.client(target, "iam")
    for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]:
        iam.delete_role_policy(RoleName=name, PolicyName=policy)
    for profile in iam.list_instance_profiles_for_role(RoleName=name)["InstanceProfiles"]:
        iam.remove_role_from_instance_profile(
            InstanceProfileName=profile["InstanceProfileName"], RoleName=name
        )
    iam.delete_role(RoleName=name)


def _instance_profile(target: Target, _settings: Settings, name: str) -> None:
    iam = aws.client(target, "iam")
    found = iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]
    for role in found["Roles"]:
        iam.remove_role_from_instance_profile(InstanceProfileName=name, RoleName=role["RoleName"])
    iam.delete_instance_profile(InstanceProfileName=name)


def _elastic_ip(target: Target, _settings: Settings, address: str) -> None:
    ec2 = aws.client(target, "ec2")
    [found] = ec2.describe_addresses(PublicIps=[address])["Addresses"]
    if "AssociationId" in found:
        ec2.disassociate_address(AssociationId=found["AssociationId"])
    ec2.release_address(AllocationId=found["AllocationId"])


def _route_table(target: Target, _settings: Settings, id: str) -> None:
    ec2 = aws.client(target, "ec2")
    [found] = ec2.describe_route_tables(RouteTableIds=[id])["RouteTables"]
    for each in found["Associations"]:
        if not each.get("Main"):
            ec2.disassociate_route_table(AssociationId=each["RouteTableAssociationId"])
    ec2.delete_route_table(RouteTableId=id)


def _internet_gateway(target: Target, _settings: Settings, id: str) -> None:
    ec2 = aws.client(target, "ec2")
    [found] = ec2.describe_internet_gateways(InternetGatewayIds=[id])["InternetGateways"]
    for each in found["Attachments"]:
        ec2.detach_internet_gateway(InternetGatewayId=id, VpcId=each["VpcId"])
    ec2.delete_internet_gateway(InternetGatewayId=id)


def _by(call: str, parameter: str) -> Callable[[Target, Settings, str], None]:
    """Return what deletes a thing of EC2 with one call."""

    def delete(target: Target, _settings: Settings, id: str) -> None:
        getattr(aws.client(target, "ec2"), call)(**{parameter: id})

    return delete


def _route(target: Target, _settings: Settings, id: str) -> None:
    ec2 = aws.client(target, "ec2")
    table = id.removeprefix("r-")[:ROUTE_TABLE_ID]
    [found] = ec2.describe_route_tables(RouteTableIds=[table])["RouteTables"]
    for route in found["Routes"]:
        destination = route.get("DestinationCidrBlock", "")
        if _route_id(table, destination) == id:
            ec2.delete_route(RouteTableId=table, DestinationCidrBlock=destination)


def _rule(target: Target, _settings: Settings, id: str) -> None:
    ec2 = aws.client(target, "ec2")
    [found] = ec2.describe_security_group_rules(SecurityGroupRuleIds=[id])["SecurityGroupRules"]
    way = "egress" if found["IsEgress"] else "ingress"
    revoke = getattr(ec2, f"revoke_security_group_{way}")
    revoke(GroupId=found["GroupId"], SecurityGroupRuleIds=[id])


def _flow_log(target: Target, _settings: Settings, id: str) -> None:
    aws.client(target, "ec2").delete_flow_logs(FlowLogIds=[id])


def _log_group(target: Target, _settings: Settings, name: str) -> None:
    aws.client(target, "logs").delete_log_group(logGroupName=name)


_REMOVE: dict[str, Callable[[Target, Settings, str], None]] = {
    "instance": _instance,
    "A record": _a_record,
    "instance profile": _instance_profile,
    "flow log": _flow_log,
    "log group": _log_group,
    "role": _role,
    "security group rule": _rule,
    "route": _route,
    "route table association": _by("disassociate_route_table", "AssociationId"),
    "volume": _by("delete_volume", "VolumeId"),
    "Elastic IP": _elastic_ip,
    "network interface": _by("delete_network_interface", "NetworkInterfaceId"),
    "security group": _by("delete_security_group", "GroupId"),
    "subnet": _by("delete_subnet", "SubnetId"),
    "route table": _route_table,
    "internet gateway": _internet_gateway,
    "VPC": _by("delete_vpc", "VpcId"),
    "key pair": _by("delete_key_pair", "KeyName"),
}
