"""What still exists of an environment, by tag and by name, and the rules of its groups."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from daybook import aws
from daybook.environment import Environment
from daybook.resources.instances import instances_of, tag_filters

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


@dataclass(frozen=True, order=True)
class Resource:
    """One resource in AWS; as text `instance i-0abc`."""

    kind: str
    id: str

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"

    @classmethod
    def parse(cls, text: str) -> Resource:
        """Return the resource that a text names."""
        kind, _, id = text.rpartition(" ")
        return cls(kind, id)


def owned_resources(environment: Environment) -> list[Resource]:
    """Return every resource with the environment's tags or name, by kind and id."""
    return sorted(
        {
            *_tagged(environment),
            *_roles(environment),
            *_key_pairs(environment),
            *_records(environment),
            *_monitoring(environment),
        }
    )


def _tagged(environment: Environment) -> Iterator[Resource]:
    ec2 = environment.client("ec2")
    yield from (Resource("instance", each.id) for each in instances_of(environment))
    for kind, (call, items, key) in TAGGED.items():
        answer = getattr(ec2, call)(Filters=tag_filters(environment))
        yield from (Resource(kind, each[key]) for each in answer[items])


def _roles(environment: Environment) -> Iterator[Resource]:
    """IAM has no filter by tag: the roles with the environment's prefix are read one by one."""
    iam = environment.client("iam")
    prefix = f"{environment.prefix}-"
    tags = {"app": environment.settings.app, "environment": environment.name}
    for page in iam.get_paginator("list_roles").paginate():
        for name in (role["RoleName"] for role in page["Roles"]):
            if name.startswith(prefix) and _fits(iam.get_role(RoleName=name)["Role"], tags):
                yield Resource("role", name)
    for page in iam.get_paginator("list_instance_profiles").paginate():
        for name in (profile["InstanceProfileName"] for profile in page["InstanceProfiles"]):
            answer = name.startswith(prefix) and iam.get_instance_profile(InstanceProfileName=name)
            if answer and _fits(answer["InstanceProfile"], tags):
                yield Resource("instance profile", name)


def _fits(found: Mapping[str, Any], tags: Mapping[str, str]) -> bool:
    """False for what belongs to an environment whose name begins like this one's."""
    own = {tag["Key"]: tag["Value"] for tag in found.get("Tags", ())}
    return all(own.get(key, value) == value for key, value in tags.items())


def _key_pairs(environment: Environment) -> Iterator[Resource]:
    wanted = [{"Name": "key-name", "Values": [environment.prefix]}]
    answer = environment.client("ec2").describe_key_pairs(Filters=wanted)
    yield from (Resource("key pair", each["KeyName"]) for each in answer["KeyPairs"])


def _records(environment: Environment) -> Iterator[Resource]:
    zone, domains = environment.settings.dns_zone, environment.settings.domains
    host_names = re.compile(rf"{re.escape(environment.prefix)}-[0-9]\.{re.escape(zone)}")
    if not (zone_id := aws.zone_id(environment.target, zone)):
        return
    pages = environment.client("route53").get_paginator("list_resource_record_sets")
    for page in pages.paginate(HostedZoneId=zone_id):
        for record in page["ResourceRecordSets"]:
            name = record["Name"].removesuffix(".")
            is_owned = name in domains or host_names.fullmatch(name)
            if is_owned and record["Type"] in OF_AN_APPLICATION:
                yield Resource(f"{record['Type']} record", name)


def _monitoring(environment: Environment) -> Iterator[Resource]:
    """Give alarms, their topic and log groups, by their names."""
    prefix = environment.prefix
    alarms = environment.client("cloudwatch").describe_alarms(AlarmNamePrefix=f"{prefix}-")
    yield from (Resource("alarm", each["AlarmName"]) for each in alarms["MetricAlarms"])
    for page in environment.client("sns").get_paginator("list_topics").paginate():
        topics = (topic["TopicArn"] for topic in page["Topics"])
        yield from (Resource("topic", arn) for arn in topics if arn.endswith(f":{prefix}-alarms"))
    logs = environment.client("logs").describe_log_groups(logGroupNamePrefix=f"{prefix}-")
    yield from (Resource("log group", each["logGroupName"]) for each in logs["logGroups"])


@dataclass(frozen=True)
class IngressRule:
    """One rule of a security group. says: "ingress tcp 22-22 from 0.0.0.0/0"."""

    id: str
    group: str
    says: str
    managed_by: str = ""


def rules(environment: Environment) -> Iterator[IngressRule]:
    """Give every rule of the environment's security groups, whoever made it."""
    ec2 = environment.client("ec2")
    groups = ec2.describe_security_groups(Filters=tag_filters(environment))["SecurityGroups"]
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
