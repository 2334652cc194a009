"""Orphaned resources of an interrupted apply, against moto in this process."""

from __future__ import annotations

import boto3
import pytest
from moto import mock_aws

from daybook.environment import Environment
from daybook.resources import orphans
from daybook.resources.owned import Resource
from daybook.settings import Settings
from daybook.target import Target

SETTINGS = Settings(
    app="hello",
    account="sandbox",
    dns_zone="daybook.test",
    domains=("staging.daybook.test",),
    vpc_cidr="10.20.0.0/16",
    ssh_allowed_cidrs=(),
)
STATEMENT = '{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}'
POLICY = f'{{"Version": "2012-10-17", "Statement": [{STATEMENT}]}}'
OURS = {"app": "hello", "environment": "staging", "managed_by": "daybook"}


@pytest.fixture
def environment(monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        target = Target("sandbox", "123456789012", "us-east-1", {})
        yield Environment("staging", tmp_path, SETTINGS, target)


def tags(**changes: str) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in (OURS | changes).items()]


def tagged(kind: str, **changes: str) -> dict:
    return {"TagSpecifications": [{"ResourceType": kind, "Tags": tags(**changes)}]}


def find(environment, state: str = "") -> list[str]:
    return [str(each) for each in orphans.find(environment, state)]


def remove_all(environment) -> None:
    for resource in find(environment):
        orphans.remove(environment, Resource.parse(resource))


@pytest.fixture
def network() -> dict[str, str]:
    """Create a basic VPC with only orphaned resources; return the ids by kind."""
    ec2 = boto3.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.20.0.0/16", **tagged("vpc"))["Vpc"]["VpcId"]
    inside = {"VpcId": vpc}
    subnet = ec2.create_subnet(CidrBlock="10.20.0.0/24", **inside, **tagged("subnet"))
    gateway = ec2.create_internet_gateway(**tagged("internet-gateway"))
    group = ec2.create_security_group(
        GroupName="g", Description="g", **inside, **tagged("security-group")
    )
    table = ec2.create_route_table(**inside, **tagged("route-table"))
    ids = {
        "security group": group["GroupId"],
        "subnet": subnet["Subnet"]["SubnetId"],
        "route table": table["RouteTable"]["RouteTableId"],
        "internet gateway": gateway["InternetGateway"]["InternetGatewayId"],
        "VPC": vpc,
    }
    ec2.attach_internet_gateway(InternetGatewayId=ids["internet gateway"], VpcId=vpc)
    ec2.associate_route_table(RouteTableId=ids["route table"], SubnetId=ids["subnet"])
    return ids


def test_a_network_is_found_and_removed_in_order(environment, network):
    assert find(environment) == [f"{kind} {id}" for kind, id in network.items()]
    remove_all(environment)
    assert find(environment) == []


@pytest.fixture
def parts(network) -> dict[str, str]:
    """Create the parts that AWS refuses to create twice; return the ids by kind."""
    ec2 = boto3.client("ec2")
    way = {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443}
    made = ec2.authorize_security_group_ingress(
        GroupId=network["security group"],
        IpPermissions=[{**way, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}],
        **tagged("security-group-rule"),
    )
    table = network["route table"]
    ec2.create_route(
        RouteTableId=table,
        DestinationCidrBlock="0.0.0.0/0",
        GatewayId=network["internet gateway"],
    )
    [found] = ec2.describe_route_tables(RouteTableIds=[table])["RouteTables"]
    [association] = (each for each in found["Associations"] if not each.get("Main"))
    return {
        "security group rule": made["SecurityGroupRules"][0]["SecurityGroupRuleId"],
        "route": f"r-{table}1080289494",
        "route table association": association["RouteTableAssociationId"],
    }


@pytest.mark.attack("F5", "what AWS refuses to make twice was made by an apply that was killed")
def test_parts_of_managed_resources_can_be_orphans(environment, network, parts):
    state = ", ".join(f'"{id}"' for id in network.values())
    assert find(environment, state) == [f"{kind} {id}" for kind, id in parts.items()]
    for resource in find(environment, state):
        orphans.remove(environment, Resource.parse(resource))
    assert find(environment, state) == []
    assert find(environment, state + ", ".join(f'"{id}"' for id in parts.values())) == []


def test_a_rule_not_created_by_terraform_is_kept(environment, network, parts):
    way = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22}
    boto3.client("ec2").authorize_security_group_ingress(
        GroupId=network["security group"],
        IpPermissions=[{**way, "IpRanges": [{"CidrIp": "192.0.2.1/32"}]}],
    )
    assert find(environment, ", ".join(f'"{id}"' for id in {**network, **parts}.values())) == []


def test_a_log_group_is_found_by_name_and_tag(environment):
    logs = boto3.client("logs")
    logs.create_log_group(logGroupName="hello-staging-flow", tags=OURS)
    logs.create_log_group(logGroupName="hello-staging-other")
    assert find(environment) == ["log group hello-staging-flow"]
    remove_all(environment)
    assert [each["logGroupName"] for each in logs.describe_log_groups()["logGroups"]] == [
        "hello-staging-other"
    ]


def test_resources_in_the_state_are_not_orphans(environment, network):
    state = f'{{"id": "{network["VPC"]}"}}'
    assert f"VPC {network['VPC']}" not in find(environment, state)
    assert f"subnet {network['subnet']}" in find(environment, state)


def test_resources_not_tagged_by_terraform_are_kept(environment):
    vpc = boto3.client("ec2").create_vpc(CidrBlock="10.20.0.0/16", **tagged("vpc", managed_by="me"))
    assert find(environment) == []
    assert orphans.unmanaged(environment, "") == [Resource("VPC", vpc["Vpc"]["VpcId"])]


def test_an_attached_volume_is_not_a_separate_orphan(environment):
    ec2 = boto3.client("ec2")
    marks = [{"ResourceType": kind, "Tags": tags()} for kind in ("instance", "volume")]
    made = ec2.run_instances(
        ImageId="ami-12345678", MinCount=1, MaxCount=1, TagSpecifications=marks
    )
    instance = made["Instances"][0]["InstanceId"]
    ec2.modify_instance_attribute(InstanceId=instance, DisableApiTermination={"Value": True})
    assert find(environment) == [f"instance {instance}"]
    assert find(environment, f'"{instance}"') == []
    remove_all(environment)
    assert orphans.unmanaged(environment, "") == []


def test_an_address_is_recognized_by_its_allocation_id(environment):
    ec2 = boto3.client("ec2")
    made = ec2.allocate_address(Domain="vpc", **tagged("elastic-ip"))
    assert find(environment) == [f"Elastic IP {made['PublicIp']}"]
    assert find(environment, f'"{made["AllocationId"]}"') == []
    remove_all(environment)
    assert ec2.describe_addresses()["Addresses"] == []


@pytest.mark.parametrize(("is_ours", "found"), [(True, 1), (False, 0)])
def test_a_record_is_an_orphan_only_with_our_address(environment, is_ours, found):
    ec2, route53 = boto3.client("ec2"), boto3.client("route53")
    address = ec2.allocate_address(Domain="vpc", **tagged("elastic-ip"))["PublicIp"]
    zone = route53.create_hosted_zone(Name="daybook.test", CallerReference="1")["HostedZone"]["Id"]
    record = {"Name": "staging.daybook.test", "Type": "A", "TTL": 60}
    record["ResourceRecords"] = [{"Value": address if is_ours else "192.0.2.1"}]
    change = {"Action": "CREATE", "ResourceRecordSet": record}
    route53.change_resource_record_sets(HostedZoneId=zone, ChangeBatch={"Changes": [change]})
    named = [each for each in find(environment) if each == "A record staging.daybook.test"]
    assert len(named) == found
    assert find(environment, '"Z_staging.daybook.test_A"') == [f"Elastic IP {address}"]
    remove_all(environment)
    assert find(environment) == []


def test_roles_and_profiles_are_removed_with_their_attachments(environment):
    iam = boto3.client("iam")
    name = "hello-staging-host"
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=POLICY, Tags=tags())
    iam.put_role_policy(RoleName=name, PolicyName="pull", PolicyDocument=POLICY)
    iam.create_instance_profile(InstanceProfileName=name, Tags=tags())
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    assert find(environment) == [f"instance profile {name}", f"role {name}"]
    remove_all(environment)
    assert find(environment) == []


def test_removing_a_deleted_resource_is_not_an_error(environment):
    orphans.remove(environment, Resource("VPC", "vpc-0123456789abcdef0"))
    orphans.remove(environment, Resource("role", "hello-staging-host"))
