"""An environment's existing resources, by tag and name, and its security group rules."""

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
"""The EC2 call, list and id key for each kind, in an order in which they can be deleted."""
ADDRESS_RECORDS = {"A", "AAAA", "CNAME"}


@dataclass(frozen=True, order=True)
class Resource:
    """One resource in AWS; its text is `instance i-0abc`."""

    kind: str
    id: str

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"

    @classmethod
    def parse(cls, text: str) -> Resource:
        """Parse the text of a resource."""
        kind, _, id = text.rpartition(" ")
        return cls(kind, id)


def owned_resources(environment: Environment) -> list[Resource]:
    """Return every resource with the environment's tags or name, sorted by kind and id."""
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
    yield from (Resource("instance", instance.id) for instance in instances_of(environment))
    for kind, (call, items, key) in TAGGED.items():
        answer = getattr(ec2, call)(Filters=tag_filters(environment))
        yield from (Resource(kind, item[key]) for item in answer[items])


def _roles(environment: Environment) -> Iterator[Resource]:
    """Yield roles and instance profiles; each is read, because IAM cannot filter by tag."""
    iam = environment.client("iam")
    prefix = f"{environment.prefix}-"
    tags = {"app": environment.settings.app, "environment": environment.name}
    for page in iam.get_paginator("list_roles").paginate():
        for name in (role["RoleName"] for role in page["Roles"]):
            if name.startswith(prefix) and _has_tags(iam.get_role(RoleName=name)["Role"], tags):
                yield Resource("role", name)
    for page in iam.get_paginator("list_instance_profiles").paginate():
        for name in (profile["InstanceProfileName"] for profile in page["InstanceProfiles"]):
            answer = name.startswith(prefix) and iam.get_instance_profile(InstanceProfileName=name)
            if answer and _has_tags(answer["InstanceProfile"], tags):
                yield Resource("instance profile", name)


def _has_tags(description: Mapping[str, Any], tags: Mapping[str, str]) -> bool:
    """Tell whether no tag contradicts; False for an environment with a longer name."""
    actual = {tag["Key"]: tag["Value"] for tag in description.get("Tags", ())}
    return all(actual.get(key, value) == value for key, value in tags.items())


def _key_pairs(environment: Environment) -> Iterator[Resource]:
    filters = [{"Name": "key-name", "Values": [environment.prefix]}]
    answer = environment.client("ec2").describe_key_pairs(Filters=filters)
    yield from (Resource("key pair", pair["KeyName"]) for pair in answer["KeyPairs"])


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
            if is_owned and record["Type"] in ADDRESS_RECORDS:
                yield Resource(f"{record['Type']} record", name)


def _monitoring(environment: Environment) -> Iterator[Resource]:
    """Yield alarms, their topic and log groups, by name."""
    prefix = environment.prefix
    alarms = environment.client("cloudwatch").describe_alarms(AlarmNamePrefix=f"{prefix}-")
    yield from (Resource("alarm", alarm["AlarmName"]) for alarm in alarms["MetricAlarms"])
    for page in environment.client("sns").get_paginator("list_topics").paginate():
        topics = (topic["TopicArn"] for topic in page["Topics"])
        yield from (Resource("topic", arn) for arn in topics if arn.endswith(f":{prefix}-alarms"))
    logs = environment.client("logs").describe_log_groups(logGroupNamePrefix=f"{prefix}-")
    yield from (Resource("log group", group["logGroupName"]) for group in logs["logGroups"])


@dataclass(frozen=True)
class IngressRule:
    """One rule of a security group. text: "ingress tcp 22-22 from 0.0.0.0/0"."""

    id: str
    group: str
    text: str
    managed_by: str = ""


def rules(environment: Environment) -> Iterator[IngressRule]:
    """Yield every rule of the environment's security groups, of any origin."""
    ec2 = environment.client("ec2")
    groups = ec2.describe_security_groups(Filters=tag_filters(environment))["SecurityGroups"]
    ids = [group["GroupId"] for group in groups]
    filters = [{"Name": "group-id", "Values": ids}]
    for page in ec2.get_paginator("describe_security_group_rules").paginate(Filters=filters):
        for rule in page["SecurityGroupRules"] if ids else ():
            direction, preposition = ("egress", "to") if rule["IsEgress"] else ("ingress", "from")
            peer = rule.get("CidrIpv4") or rule.get("CidrIpv6") or "another group"
            ports = f"{rule.get('FromPort', -1)}-{rule.get('ToPort', -1)}"
            text = f"{direction} {rule['IpProtocol']} {ports} {preposition} {peer}"
            tags = {tag["Key"]: tag["Value"] for tag in rule.get("Tags", ())}
            managed_by = tags.get("managed_by", "")
            yield IngressRule(rule["SecurityGroupRuleId"], rule["GroupId"], text, managed_by)
