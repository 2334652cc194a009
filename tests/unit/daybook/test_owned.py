"""Owned resources of an environment, by tag and name, against moto in this process."""

from __future__ import annotations

from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from daybook import settings
from daybook.environment import Environment
from daybook.resources import owned
from daybook.target import Target

POLICY = '{"Version": "2012-10-17", "Statement": []}'
ROOT = Path(__file__).parents[3]
ZONE = "daybook.test"


@pytest.fixture
def here(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        yield Target("sandbox", "123456789012", "us-east-1", {})


def environment(here, name: str = "staging") -> Environment:
    return Environment(name, ROOT, settings.load(ROOT, name), here)


def found(here) -> list[str]:
    return [str(resource) for resource in owned.owned_resources(environment(here))]


def tags(env: str) -> list[dict[str, str]]:
    return [{"Key": "app", "Value": "hello"}, {"Key": "environment", "Value": env}]


def test_an_account_without_the_environment_has_no_owned_resources(here):
    assert found(here) == []


def test_tagged_resources_are_owned(here):
    ec2 = boto3.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.20.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.20.0.0/24")["Subnet"]["SubnetId"]
    volume = ec2.create_volume(AvailabilityZone="us-east-1a", Size=1)["VolumeId"]
    ec2.create_tags(Resources=[vpc, volume], Tags=tags("staging"))
    ec2.create_tags(Resources=[subnet], Tags=tags("production"))
    assert found(here) == sorted([f"VPC {vpc}", f"volume {volume}"])


@pytest.mark.parametrize(
    ("name", "env", "is_left"),
    [
        ("hello-staging-host", "staging", True),
        ("hello-staging-host", None, True),
        ("hello-staging-eu-host", "staging-eu", False),
        ("hello-production-host", "production", False),
    ],
)
def test_a_role_is_owned_by_name_unless_its_tags_differ(here, name, env, is_left):
    iam = boto3.client("iam")
    own = {"Tags": tags(env)} if env else {}
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=POLICY, **own)
    iam.create_instance_profile(InstanceProfileName=name, **own)
    assert found(here) == ([f"instance profile {name}", f"role {name}"] if is_left else [])


def test_a_key_pair_is_owned_by_name(here):
    ec2 = boto3.client("ec2")
    ec2.create_key_pair(KeyName="hello-staging")
    ec2.create_key_pair(KeyName="hello-production")
    assert found(here) == ["key pair hello-staging"]


def test_a_dns_record_is_owned_by_name(here):
    route53 = boto3.client("route53")
    zone = route53.create_hosted_zone(Name=ZONE, CallerReference="1")["HostedZone"]["Id"]
    for name in ("staging.daybook.test", "www.daybook.test"):
        record = {"Name": name, "Type": "A", "TTL": 60, "ResourceRecords": [{"Value": "10.0.0.1"}]}
        change = {"Action": "CREATE", "ResourceRecordSet": record}
        route53.change_resource_record_sets(HostedZoneId=zone, ChangeBatch={"Changes": [change]})
    assert found(here) == ["A record staging.daybook.test"]


def test_all_rules_of_the_groups_are_listed(here):
    ec2 = boto3.client("ec2")
    group = ec2.create_security_group(GroupName="g", Description="g")["GroupId"]
    ec2.create_tags(Resources=[group], Tags=tags("staging"))
    ec2.authorize_security_group_ingress(
        GroupId=group, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="0.0.0.0/0"
    )
    said = {rule.text for rule in owned.rules(environment(here))}
    assert "ingress tcp 22-22 from 0.0.0.0/0" in said
    assert list(owned.rules(environment(here, "production"))) == []


def test_alarms_topics_and_logs_are_owned_by_name(here):
    for env in ("staging", "production"):
        boto3.client("cloudwatch").put_metric_alarm(
            AlarmName=f"hello-{env}-1-status",
            MetricName="StatusCheckFailed",
            Namespace="AWS/EC2",
            Statistic="Maximum",
            Period=60,
            EvaluationPeriods=1,
            Threshold=1,
            ComparisonOperator="GreaterThanThreshold",
        )
        boto3.client("sns").create_topic(Name=f"hello-{env}-alarms")
        boto3.client("logs").create_log_group(logGroupName=f"hello-{env}-flow")
    assert found(here) == [
        "alarm hello-staging-1-status",
        "log group hello-staging-flow",
        "topic arn:aws:sns:us-east-1:123456789012:hello-staging-alarms",
    ]
