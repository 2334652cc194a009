"""Find and remove resources that an interrupted apply created but did not record in the state.

When Terraform is interrupted, it cancels the calls in progress. A call that AWS had already
carried out leaves a resource that is in no state: the next apply creates another one, or fails
because the name exists.
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

MANAGED = {"Name": "tag:managed_by", "Values": ["daybook"]}
"""A tag that only Terraform sets: resources created by hand are never removed."""
ROUTE_TABLE_ID = len("rtb-0123456789abcdef0")


def unmanaged(environment: Environment, state: str) -> list[Resource]:
    """Return the environment's resources that are not in this Terraform state, of any origin."""
    return [resource for resource in owned_resources(environment) if not _is_known(resource, state)]


def find(environment: Environment, state: str) -> list[Resource]:
    """Return the orphaned resources of an interrupted apply, in the order of removal."""
    orphans = [
        resource
        for resource in unmanaged(environment, state)
        if resource.kind in _REMOVE and _is_removable(environment, resource, state)
    ]
    orphans += [part for part in _parts(environment, state) if f'"{part.id}"' not in state]
    kinds = list(_REMOVE)
    return sorted(orphans, key=lambda orphan: kinds.index(orphan.kind))


def remove(environment: Environment, resource: Resource) -> None:
    """Delete an orphaned resource; ignore one that is already deleted."""
    try:
        _REMOVE[resource.kind](environment, resource.id)
    except ClientError as err:
        code = err.response["Error"]["Code"]
        if not code.endswith((".NotFound", "NoSuchEntity", "ResourceNotFoundException")):
            raise


def _is_known(resource: Resource, state: str) -> bool:
    """Tell whether a state contains a resource.

    DNS records are matched by name and type, because outputs contain the bare names too.
    """
    if resource.kind.endswith(" record"):
        return f'_{resource.id}_{resource.kind.split()[0]}"' in state
    return f'"{resource.id}"' in state


def _parts(environment: Environment, state: str) -> Iterator[Resource]:
    """Yield parts of resources in the state: rules, routes, associations and flow logs.

    AWS refuses to create any of these twice. Parts of a resource that is not in the state are no
    obstacle.
    """
    ec2, filters = environment.client("ec2"), [*tag_filters(environment), MANAGED]
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
    """Return a route's id in Terraform's AWS provider: `r-rtb-0abc1080289494`."""
    return f"r-{table}{zlib.crc32(destination.encode())}"


def _is_removable(environment: Environment, resource: Resource, state: str) -> bool:
    """Tell whether Terraform created the resource for this environment and nothing else uses it."""
    kind, id = resource.kind, resource.id
    if kind == "A record":
        values = {value["Value"] for value in _record(environment, id)["ResourceRecords"]}
        return values <= set(_addresses(environment))
    if kind == "log group":
        logs = environment.client("logs")
        [group] = logs.describe_log_groups(logGroupNamePrefix=id, limit=1)["logGroups"]
        answer = logs.list_tags_for_resource(resourceArn=group["arn"].removesuffix(":*"))
        return answer["tags"].get("managed_by") == "daybook"
    if kind in ("role", "instance profile"):
        iam = environment.client("iam")
        if kind == "role":
            description = iam.get_role(RoleName=id)["Role"]
        else:
            description = iam.get_instance_profile(InstanceProfileName=id)["InstanceProfile"]
        return {"Key": "managed_by", "Value": "daybook"} in description.get("Tags", ())
    ec2, filters = environment.client("ec2"), [*tag_filters(environment), MANAGED]
    if kind == "instance":
        return bool(ec2.describe_instances(InstanceIds=[id], Filters=filters)["Reservations"])
    call, items, key = TAGGED[kind]
    matches = [item for item in getattr(ec2, call)(Filters=filters)[items] if item[key] == id]
    return any(not _is_used(match, state) for match in matches)


def _is_used(description: dict[str, Any], state: str) -> bool:
    """Tell whether a volume or interface is in use, or a state contains an address by its id."""
    is_used = "in-use" in (description.get("State"), description.get("Status"))
    return is_used or f'"{description.get("AllocationId")}"' in state


def _addresses(environment: Environment) -> Iterator[str]:
    filters = [*tag_filters(environment), MANAGED]
    for address in environment.client("ec2").describe_addresses(Filters=filters)["Addresses"]:
        yield address["PublicIp"]


def _record(environment: Environment, name: str) -> dict[str, Any]:
    [record] = environment.client("route53").list_resource_record_sets(
        HostedZoneId=aws.zone_id(environment.target, environment.settings.dns_zone),
        StartRecordName=name,
        StartRecordType="A",
        MaxItems="1",
    )["ResourceRecordSets"]
    return record


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
    profile = iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]
    for role in profile["Roles"]:
        iam.remove_role_from_instance_profile(InstanceProfileName=name, RoleName=role["RoleName"])
    iam.delete_instance_profile(InstanceProfileName=name)


def _elastic_ip(environment: Environment, address: str) -> None:
    ec2 = environment.client("ec2")
    [description] = ec2.describe_addresses(PublicIps=[address])["Addresses"]
    if "AssociationId" in description:
        ec2.disassociate_address(AssociationId=description["AssociationId"])
    ec2.release_address(AllocationId=description["AllocationId"])


def _route_table(environment: Environment, id: str) -> None:
    ec2 = environment.client("ec2")
    [table] = ec2.describe_route_tables(RouteTableIds=[id])["RouteTables"]
    for association in table["Associations"]:
        if not association.get("Main"):
            ec2.disassociate_route_table(AssociationId=association["RouteTableAssociationId"])
    ec2.delete_route_table(RouteTableId=id)


def _internet_gateway(environment: Environment, id: str) -> None:
    ec2 = environment.client("ec2")
    [gateway] = ec2.describe_internet_gateways(InternetGatewayIds=[id])["InternetGateways"]
    for attachment in gateway["Attachments"]:
        ec2.detach_internet_gateway(InternetGatewayId=id, VpcId=attachment["VpcId"])
    ec2.delete_internet_gateway(InternetGatewayId=id)


def _delete_with(call: str, parameter: str) -> Callable[[Environment, str], None]:
    """Return a function that deletes an EC2 resource with one call."""

    def delete(environment: Environment, id: str) -> None:
        getattr(environment.client("ec2"), call)(**{parameter: id})

    return delete


def _route(environment: Environment, id: str) -> None:
    ec2 = environment.client("ec2")
    table = id.removeprefix("r-")[:ROUTE_TABLE_ID]
    [description] = ec2.describe_route_tables(RouteTableIds=[table])["RouteTables"]
    for route in description["Routes"]:
        destination = route.get("DestinationCidrBlock", "")
        if _route_id(table, destination) == id:
            ec2.delete_route(RouteTableId=table, DestinationCidrBlock=destination)


def _rule(environment: Environment, id: str) -> None:
    ec2 = environment.client("ec2")
    [rule] = ec2.describe_security_group_rules(SecurityGroupRuleIds=[id])["SecurityGroupRules"]
    direction = "egress" if rule["IsEgress"] else "ingress"
    revoke = getattr(ec2, f"revoke_security_group_{direction}")
    revoke(GroupId=rule["GroupId"], SecurityGroupRuleIds=[id])


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
    "route table association": _delete_with("disassociate_route_table", "AssociationId"),
    "volume": _delete_with("delete_volume", "VolumeId"),
    "Elastic IP": _elastic_ip,
    "network interface": _delete_with("delete_network_interface", "NetworkInterfaceId"),
    "security group": _delete_with("delete_security_group", "GroupId"),
    "subnet": _delete_with("delete_subnet", "SubnetId"),
    "route table": _route_table,
    "internet gateway": _internet_gateway,
    "VPC": _delete_with("delete_vpc", "VpcId"),
    "key pair": _delete_with("delete_key_pair", "KeyName"),
}
