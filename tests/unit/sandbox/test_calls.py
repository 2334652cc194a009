"""The IAM checks of API calls, by AWS's service authorization reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from moto.core.authorization import ActionAuthenticatorMixin

from daybook_sandbox import calls
from daybook_sandbox.api import REGION

ACCOUNT = "123456789012"
EC2 = f"arn:aws:ec2:{REGION}:{ACCOUNT}"
STAGING = [{"Key": "environment", "Value": "staging"}]
ALLOW = (
    '{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}'
)
TRUST = '{"Version": "2012-10-17", "Statement": []}'


@pytest.fixture
def checks(world, monkeypatch) -> Callable[..., list[tuple[str, str, dict[str, Any]]]]:
    """Return a function that makes a call and returns its checks: action, resource, context."""
    recorded: list[calls.Call] = []

    def record(self: Any, _: type, resource: str = "*") -> None:
        recorded.extend(calls.required(calls.Request.of(self, resource)))

    def call_api(
        service: str, call: str, **parameters: Any
    ) -> list[tuple[str, str, dict[str, Any]]]:
        with monkeypatch.context() as patch:
            patch.setattr(ActionAuthenticatorMixin, "_authenticate_and_authorize_action", record)
            recorded.clear()
            getattr(world.client(service), call)(**parameters)
        regional = "aws:RequestedRegion"
        return [
            (
                check.action,
                check.resource,
                {key: value for key, value in check.context.items() if key != regional},
            )
            for check in recorded
        ]

    return call_api


def spec(kind: str) -> dict[str, Any]:
    return {"TagSpecifications": [{"ResourceType": kind, "Tags": STAGING}]}


def test_a_new_resource_has_the_request_tags_and_a_separate_check_for_tagging(checks):
    request = {"aws:RequestTag/environment": "staging"}
    assert checks("ec2", "create_vpc", CidrBlock="10.1.0.0/16", **spec("vpc")) == [
        ("ec2:CreateVpc", f"{EC2}:vpc/*", request),
        ("ec2:CreateTags", f"{EC2}:vpc/*", request | {"ec2:CreateAction": "CreateVpc"}),
    ]


def test_an_existing_resource_has_its_own_tags_and_the_request_tags(checks, world):
    ec2 = world.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    ec2.create_tags(Resources=[vpc], Tags=[{"Key": "environment", "Value": "production"}])
    first = checks("ec2", "create_subnet", VpcId=vpc, CidrBlock="10.1.0.0/24", **spec("subnet"))[0]
    assert first == (
        "ec2:CreateSubnet",
        f"{EC2}:vpc/{vpc}",
        {"aws:RequestTag/environment": "staging", "aws:ResourceTag/environment": "production"},
    )


def test_an_association_refers_to_both_associated_resources(checks, world):
    [address] = world.client("ec2").describe_addresses()["Addresses"]
    required = checks("ec2", "disassociate_address", AssociationId=address["AssociationId"])
    kinds = {resource.split(":")[-1].split("/")[0] for _, resource, _ in required}
    assert kinds >= {"elastic-ip", "instance"}


def test_a_role_is_passed_with_a_profile(checks, world):
    world.client("iam").create_role(RoleName="other", AssumeRolePolicyDocument=TRUST)
    world.client("iam").create_instance_profile(InstanceProfileName="empty")
    parameters = {"InstanceProfileName": "empty", "RoleName": "other"}
    assert checks("iam", "add_role_to_instance_profile", **parameters) == [
        ("iam:AddRoleToInstanceProfile", f"arn:aws:iam::{ACCOUNT}:instance-profile/empty", {}),
        (
            "iam:PassRole",
            f"arn:aws:iam::{ACCOUNT}:role/other",
            {"iam:PassedToService": "ec2.amazonaws.com"},
        ),
    ]


def test_a_new_role_has_only_the_boundary_of_the_request(checks, world):
    boundary = f"arn:aws:iam::{ACCOUNT}:policy/limit"
    limit = {"iam:PermissionsBoundary": boundary}
    role = {"RoleName": "new", "AssumeRolePolicyDocument": TRUST}
    arn = f"arn:aws:iam::{ACCOUNT}:role/new"
    assert checks("iam", "create_role", **role, PermissionsBoundary=boundary) == [
        ("iam:CreateRole", arn, limit)
    ]
    parameters = {"RoleName": "new", "PolicyName": "x", "PolicyDocument": ALLOW}
    assert checks("iam", "put_role_policy", **parameters) == [("iam:PutRolePolicy", arn, limit)]


def test_dns_names_are_normalized(checks, world):
    created = world.client("route53").create_hosted_zone(Name="a.test", CallerReference="1")
    zone = created["HostedZone"]["Id"]
    records = {
        "Name": "WWW.a.test.",
        "Type": "A",
        "TTL": 1,
        "ResourceRecords": [{"Value": "1.2.3.4"}],
    }
    batch = {"Changes": [{"Action": "UPSERT", "ResourceRecordSet": records}]}
    [check] = checks("route53", "change_resource_record_sets", HostedZoneId=zone, ChangeBatch=batch)
    key = "route53:ChangeResourceRecordSets"
    assert check[1] == f"arn:aws:route53:::{zone.strip('/')}"
    assert check[2] == {
        f"{key}NormalizedRecordNames": ["www.a.test"],
        f"{key}RecordTypes": ["A"],
        f"{key}Actions": ["UPSERT"],
    }


def test_an_alarm_has_the_actions_of_every_state(checks):
    parameters = {"Namespace": "a", "MetricName": "b", "Period": 60, "EvaluationPeriods": 1}
    parameters |= {"Threshold": 1, "Statistic": "Sum", "ComparisonOperator": "LessThanThreshold"}
    actions = {"AlarmActions": ["arn:a"], "OKActions": ["arn:b"]}
    [check] = checks("cloudwatch", "put_metric_alarm", AlarmName="x", **parameters, **actions)
    assert check[1:] == (
        f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:x",
        {"cloudwatch:AlarmActions": ["arn:a", "arn:b"]},
    )


@pytest.mark.parametrize(
    ("service", "call", "parameters", "resource"),
    [
        ("ssm", "get_parameters_by_path", {"Path": "/a/b/"}, "ssm:{}:parameter/a/b"),
        ("logs", "create_log_group", {"logGroupName": "g"}, "logs:{}:log-group:g:log-stream:"),
        ("sns", "create_topic", {"Name": "t"}, "sns:{}:t"),
    ],
)
def test_a_name_becomes_an_arn(checks, service, call, parameters, resource):
    [(_, arn, _)] = checks(service, call, **parameters)
    assert arn == "arn:aws:" + resource.format(f"{REGION}:{ACCOUNT}")
