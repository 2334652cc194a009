"""What still exists of an environment, by tag and by name, and the rules of its groups."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from daybook import aws
from daybook.aws import instances
from daybook.target import Target

TAGGED = {
    "volume": ("describe_volumes", "Volumes", "VolumeId"),
    "Elastic IP": ("describe_addresses", "Addresses", "PublicIp"),
    "network interface": (
        "describe_network_interfaces",
        "NetworkInterfaces",
        "NetworkInterfaceId",
    ),
    "security group": ("describe_security_groups", "SecurityGroups", "GroupId"),
    "subnet": ("describe_subnets", "Subnets", "SubnetId"),
    "route table": ("describe_route_tables", "RouteTables", "RouteTableId"),
    "internet gateway": ("describe_internet_gateways", "InternetGateways", "InternetGatewayId"),
    "VPC": ("describe_vpcs", "Vpcs", "VpcId"),
    "key pair": ("describe_key_pairs", "KeyPairs", "KeyName"),
}
"""How EC2 is asked for each kind, in the order in which they can be deleted."""
OF_AN_APPLICATION = {"A", "AAAA", "CNAME"}


def owned_resources(
    target: Target, app: str, env: str, zone: str, names: Sequence[str]
) -> list[str]:
    """Return what still exists of an environment: `["instance i-0abc", "role web-host"]`."""
    return sorted(
        {
            *_tagged(target, app, env),
            *_roles(target, app, env),
            *_key_pairs(target, f"{app}-{env}"),
            *_records(target, zone, names, f"{app}-{env}"),
            *_watching(target, app, env),
        }
    )


def _tagged(target: Target, app: str, env: str) -> Iterator[str]:
    ec2 = aws.client(target, "ec2")
    yield from (f"instance {host.id}" for host in instances.hosts(target, app, env))
    for kind, (call, items, key) in TAGGED.items():
        answer = getattr(ec2, call)(Filters=instances.mine(app, env))
        yield from (f"{kind} {each[key]}" for each in answer[items])


def _roles(target: Target, app: str, env: str) -> Iterator[str]:
    """IAM finds nothing by tag: what has the name is asked whose it is."""
    iam = aws.client(target, "iam")
    prefix, tags = f"{app}-{env}-", {"app": app, "environment": env}
    for page in iam.get_paginator("list_roles").paginate():
        for name in (role["RoleName"] for role in page["Roles"]):
            if name.startswith(prefix) and _fits(iam.get_role(RoleName=name)["Role"], tags):
                yield f"role {name}"
    for page in iam.get_paginator("list_instance_profiles").paginate():
        for name in (profile["InstanceProfileName"] for profile in page["InstanceProfiles"]):
            answer = name.startswith(prefix) and iam.get_instance_profile(InstanceProfileName=name)
            if answer and _fits(answer["InstanceProfile"], tags):
                yield f"instance profile {name}"


def _fits(found: Mapping[str, Any], tags: Mapping[str, str]) -> bool:
    """False for what belongs to an environment whose name begins like this one's."""
    own = {tag["Key"]: tag["Value"] for tag in owned_resources.get("Tags", ())}
    return all(own.get(key, value) == value for key, value in tags.items())


def _key_pairs(target: Target, name: str) -> Iterator[str]:
    wanted = [{"Name": "key-name", "Values": [name]}]
    answer = aws.client(target, "ec2").describe_key_pairs(Filters=wanted)
    yield from (f"key pair {each['KeyName']}" for each in answer["KeyPairs"])


def _records(target: Target, zone: str, names: Sequence[str], host: str) -> Iterator[str]:
    own = re.compile(rf"{re.escape(host)}-[0-9]\.{re.escape(zone)}")
    if not (zone_id := aws.zone_id(target, zone)):
        return
    pages = aws.client(target, "route53").get_paginator("list_resource_record_sets")
    for page in pages.paginate(HostedZoneId=zone_id):
        for record in page["ResourceRecordSets"]:
            name = record["Name"].removesuffix(".")
            is_mine = name in names or own.fullmatch(name)
            if is_mine and record["Type"] in OF_AN_APPLICATION:
                yield f"{record['Type']} record {name}"


def _watching(target: Target, app: str, env: str) -> Iterator[str]:
    """Give alarms, their topic and logs, by their names."""
    alarms = aws.client(target, "cloudwatch").describe_alarms(AlarmNamePrefix=f"{app}-{env}-")
    yield from (f"alarm {each['AlarmName']}" for each in alarms["MetricAlarms"])
    for page in aws.client(target, "sns").get_paginator("list_topics").paginate():
        topics = (topic["TopicArn"] for topic in page["Topics"])
        yield from (f"topic {arn}" for arn in topics if arn.endswith(f":{app}-{env}-alarms"))
    logs = aws.client(target, "logs").describe_log_groups(logGroupNamePrefix=f"{app}-{env}-")
    yield from (f"log group {each['logGroupName']}" for each in logs["logGroups"])


@dataclass(frozen=True)
class IngressRule:
    """One rule of a security group. says: "ingress tcp 22-22 from 0.0.0.0/0"."""

    id: str
    group: str
    says: str
    managed_by: str = ""


def rules(target: Target, app: str, env: str) -> Iterator[IngressRule]:
    """Give every rule of the environment's security groups, whoever made it."""
    ec2 = aws.client(target, "ec2")
    groups = ec2.describe_security_groups(Filters=instances.mine(app, env))["SecurityGroups"]
    ids = [group["GroupId"] for group in groups]
    wanted = [{"Name": "group-id", "Values": ids}]
    for page in ec2.get_paginator("describe_security_group_rules").paginate(Filters=wanted):
        for rule in page["SecurityGroupRules"] if ids else ():
            way, join = ("egress", "to") if rule["IsEgress"] else ("ingress", "from")
            peer = rule.get("CidrIpv4") or rule.get("CidrIpv6") or "another group"
            ports = f"{rule.get('FromPort', -1)}-{rule.get('ToPort', -1)}"
            says = f"{way} {rule['IpProtocol']} {ports} {join} {peer}"
            tags = {tag["Key"]: tag["Value"] for tag in rule.get("Tags", ())}
            managed_by = tags.get("managed_by", "")
            yield IngressRule(rule["SecurityGroupRuleId"], rule["GroupId"], says, managed_by)
