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
from daybook.environment import Environment
from daybook.resources.instances import STOP, tag_filters
from daybook.resources.owned import TAGGED, Resource, owned_resources, rules

OURS = {"Name": "tag:managed_by", "Values": ["daybook"]}
"""What only Terraform tags: things that were made by hand are not for us to remove."""
ROUTE_TABLE_ID = len("rtb-0123456789abcdef0")


def unmanaged(environment: Environment, state: str) -> list[Resource]:
    """Return what the environment owns and this Terraform state does not have, whoever made it."""
    return [each for each in owned_resources(environment) if not _is_known(each, state)]


def find(environment: Environment, state: str) -> list[Resource]:
    """Return the resources that an interrupted apply left, in the order of their removal."""
    orphans = [
        each
        for each in unmanaged(environment, state)
        if each.kind in _REMOVE and _is_ours(environment, each, state)
    ]
    orphans += [each for each in _parts(environment, state) if f'"{each.id}"' not in state]
    kinds = list(_REMOVE)
    return sorted(orphans, key=lambda each: kinds.index(each.kind))


def remove(environment: Environment, resource: Resource) -> None:
    """Delete an orphan; one that was deleted with another is no error."""
    try:
        _REMOVE[resource.kind](environment, resource.id)
    except ClientError as err:
        code = err.response["Error"]["Code"]
        if not code.endswith((".NotFound", "NoSuchEntity", "ResourceNotFoundException")):
            raise


def _is_known(resource: Resource, state: str) -> bool:
    """Records are in a state by zone, name and type: their bare names are also outputs."""
    if resource.kind.endswith(" record"):
        return f'_{resource.id}_{resource.kind.split()[0]}"' in state
    return f'"{resource.id}"' in state


def _parts(environment: Environment, state: str) -> Iterator[Resource]:
    """Give what only exists in or beside a thing of the state: without that one it is no obstacle.

    AWS refuses to make each of these a second time.
    """
    ec2, filters = environment.client("ec2"), [*tag_filters(environment), OURS]
    for rule in rules(environment):
        if rule.managed_by == "daybook" and f'"{rule.group}"' in state:
            yield Resource("security group rule", rule.id)
    for table in ec2.describe_route_tables(Filters=filters)["RouteTables"]:
        if f'"{table["RouteTableId"]}"' not in state:
            continue
        for association in table["Associations"]:
            if not association.get("Main"):
                yield Resource("route table association", association["RouteTableAssociationId"])
        for route in table["Routes"]:
            if route.get("GatewayId", "").startswith("igw-"):
                destination = route["DestinationCidrBlock"]
                yield Resource("route", _route_id(table["RouteTableId"], destination))
    for log in ec2.describe_flow_logs(Filters=filters)["FlowLogs"]:
        yield Resource("flow log", log["FlowLogId"])


def _route_id(table: str, destination: str) -> str:
    """Return the id that Terraform's provider gives a route: `r-rtb-0abc1080289494`."""
    return f"r-{table}{zlib.crc32(destination.encode())}"


def _is_ours(environment: Environment, resource: Resource, state: str) -> bool:
    """Tell whether Terraform made it, for this environment, and it goes with nothing else."""
    kind, id = resource.kind, resource.id
    if kind == "A record":
        values = {each["Value"] for each in _record(environment, id)["ResourceRecords"]}
        return values <= set(_addresses(environment))
    if kind == "log group":
        logs = environment.client("logs")
        [group] = logs.describe_log_groups(logGroupNamePrefix=id, limit=1)["logGroups"]
        answer = logs.list_tags_for_resource(resourceArn=group["arn"].removesuffix(":*"))
        return answer["tags"].get("managed_by") == "daybook"
    if kind in ("role", "instance profile"):
        iam = environment.client("iam")
        if kind == "role":
            found = iam.get_role(RoleName=id)["Role"]
        else:
            found = iam.get_instance_profile(InstanceProfileName=id)["InstanceProfile"]
        return {"Key": "managed_by", "Value": "daybook"} in found.get("Tags", ())
    ec2, filters = environment.client("ec2"), [*tag_filters(environment), OURS]
    if kind == "instance":
        return bool(ec2.describe_instances(InstanceIds=[id], Filters=filters)["Reservations"])
    call, items, key = TAGGED[kind]
    found = [each for each in getattr(ec2, call)(Filters=filters)[items] if each[key] == id]
    return any(not _goes_with_another(each, state) for each in found)


def _goes_with_another(found: dict[str, Any], state: str) -> bool:
    """Tell of volumes and interfaces in use, and of an address that a cut state knows by its id."""
    is_used = "in-use" in (found.get("State"), found.get("Status"))
    return is_used or f'"{found.get("AllocationId")}"' in state


def _addresses(environment: Environment) -> Iterator[str]:
    filters = [*tag_filters(environment), OURS]
    for each in environment.client("ec2").describe_addresses(Filters=filters)["Addresses"]:
        yield each["PublicIp"]


def _record(environment: Environment, name: str) -> dict[str, Any]:
    [found] = environment.client("route53").list_resource_record_sets(
        HostedZoneId=aws.zone_id(environment.target, environment.settings.dns_zone),
        StartRecordName=name,
        StartRecordType="A",
        MaxItems="1",
    )["ResourceRecordSets"]
    return found


def _instance(environment: Environment, id: str) -> None:
    ec2 = environment.client("ec2")
    ec2.modify_instance_attribute(InstanceId=id, DisableApiTermination={"Value": False})
    ec2.terminate_instances(InstanceIds=[id])
    aws.wait_for(environment.target, "ec2", "instance_terminated", InstanceIds=[id], **STOP)


def _a_record(environment: Environment, name: str) -> None:
    change = {"Action": "DELETE", "ResourceRecordSet": _record(environment, name)}
    environment.client("route53").change_resource_record_sets(
        HostedZoneId=aws.zone_id(environment.target, environment.settings.dns_zone),
        ChangeBatch={"Changes": [change]},
    )


def _role(environment: Environment, name: str) -> None:
    iam = environment.client("iam")
    for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]:
        iam.delete_role_policy(RoleName=name, PolicyName=policy)
    for profile in iam.list_instance_profiles_for_role(RoleName=name)["InstanceProfiles"]:
        iam.remove_role_from_instance_profile(
            InstanceProfileName=profile["InstanceProfileName"], RoleName=name
        )
    iam.delete_role(RoleName=name)


def _instance_profile(environment: Environment, name: str) -> None:
    iam = environment.client("iam")
    found = iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]
    for role in found["Roles"]:
        iam.remove_role_from_instance_profile(InstanceProfileName=name, RoleName=role["RoleName"])
    iam.delete_instance_profile(InstanceProfileName=name)


def _elastic_ip(environment: Environment, address: str) -> None:
    ec2 = environment.client("ec2")
    [found] = ec2.describe_addresses(PublicIps=[address])["Addresses"]
    if "AssociationId" in found:
        ec2.disassociate_address(AssociationId=found["AssociationId"])
    ec2.release_address(AllocationId=found["AllocationId"])


def _route_table(environment: Environment, id: str) -> None:
    ec2 = environment.client("ec2")
    [found] = ec2.describe_route_tables(RouteTableIds=[id])["RouteTables"]
    for each in found["Associations"]:
        if not each.get("Main"):
            ec2.disassociate_route_table(AssociationId=each["RouteTableAssociationId"])
    ec2.delete_route_table(RouteTableId=id)


def _internet_gateway(environment: Environment, id: str) -> None:
    ec2 = environment.client("ec2")
    [found] = ec2.describe_internet_gateways(InternetGatewayIds=[id])["InternetGateways"]
    for each in found["Attachments"]:
        ec2.detach_internet_gateway(InternetGatewayId=id, VpcId=each["VpcId"])
    ec2.delete_internet_gateway(InternetGatewayId=id)


def _by(call: str, parameter: str) -> Callable[[Environment, str], None]:
    """Return what deletes a thing of EC2 with one call."""

    def delete(environment: Environment, id: str) -> None:
        getattr(environment.client("ec2"), call)(**{parameter: id})

    return delete


def _route(environment: Environment, id: str) -> None:
    ec2 = environment.client("ec2")
    table = id.removeprefix("r-")[:ROUTE_TABLE_ID]
    [found] = ec2.describe_route_tables(RouteTableIds=[table])["RouteTables"]
    for route in found["Routes"]:
        destination = route.get("DestinationCidrBlock", "")
        if _route_id(table, destination) == id:
            ec2.delete_route(RouteTableId=table, DestinationCidrBlock=destination)


def _rule(environment: Environment, id: str) -> None:
    ec2 = environment.client("ec2")
    [found] = ec2.describe_security_group_rules(SecurityGroupRuleIds=[id])["SecurityGroupRules"]
    way = "egress" if found["IsEgress"] else "ingress"
    revoke = getattr(ec2, f"revoke_security_group_{way}")
    revoke(GroupId=found["GroupId"], SecurityGroupRuleIds=[id])


def _flow_log(environment: Environment, id: str) -> None:
    environment.client("ec2").delete_flow_logs(FlowLogIds=[id])


def _log_group(environment: Environment, name: str) -> None:
    environment.client("logs").delete_log_group(logGroupName=name)


_REMOVE: dict[str, Callable[[Environment, str], None]] = {
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
