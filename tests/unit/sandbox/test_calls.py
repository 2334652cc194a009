"""What IAM is asked about a call: AWS's service authorization reference, for what Daybook uses."""

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
def asked(world, monkeypatch) -> Callable[..., list[tuple[str, str, dict[str, Any]]]]:
    """Return what makes a call and gives (action, resource, context) of what IAM was asked."""
    heard: list[calls.Call] = []

    def hear(self: Any, _: type, resource: str = "*") -> None:
        heard.extend(calls.asked(calls.Request.of(self, resource)))

    def ask(service: str, call: str, **parameters: Any) -> list[tuple[str, str, dict[str, Any]]]:
        with monkeypatch.context() as patch:
            patch.setattr(ActionAuthenticatorMixin, "_authenticate_and_authorize_action", hear)
            heard.clear()
            getattr(world.client(service), call)(**parameters)
        regional = "aws:RequestedRegion"
        contexts = ({k: v for k, v in each.context.items() if k != regional} for each in heard)
        return [(c.action, c.resource, x) for c, x in zip(heard, contexts, strict=True)]

    return ask


def spec(kind: str) -> dict[str, Any]:
    return {"TagSpecifications": [{"ResourceType": kind, "Tags": STAGING}]}


def test_what_is_made_has_the_tags_of_the_request_and_is_tagged_by_a_call_of_its_own(asked):
    request = {"aws:RequestTag/environment": "staging"}
    assert asked("ec2", "create_vpc", CidrBlock="10.1.0.0/16", **spec("vpc")) == [
        ("ec2:CreateVpc", f"{EC2}:vpc/*", request),
        ("ec2:CreateTags", f"{EC2}:vpc/*", request | {"ec2:CreateAction": "CreateVpc"}),
    ]


def test_what_is_there_has_its_own_tags_and_those_of_the_request_too(asked, world):
    ec2 = world.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    ec2.create_tags(Resources=[vpc], Tags=[{"Key": "environment", "Value": "production"}])
    first = asked("ec2", "create_subnet", VpcId=vpc, CidrBlock="10.1.0.0/24", **spec("subnet"))[0]
    assert first == (
        "ec2:CreateSubnet",
        f"{EC2}:vpc/{vpc}",
        {"aws:RequestTag/environment": "staging", "aws:ResourceTag/environment": "production"},
    )


def test_an_association_is_what_it_associates(asked, world):
    [address] = world.client("ec2").describe_addresses()["Addresses"]
    found = asked("ec2", "disassociate_address", AssociationId=address["AssociationId"])
    kinds = {resource.split(":")[-1].split("/")[0] for _, resource, _ in found}
    assert kinds >= {"elastic-ip", "instance"}


def test_a_role_is_passed_with_a_profile(asked, world):
    world.client("iam").create_role(RoleName="other", AssumeRolePolicyDocument=TRUST)
    world.client("iam").create_instance_profile(InstanceProfileName="empty")
    words = {"InstanceProfileName": "empty", "RoleName": "other"}
    assert asked("iam", "add_role_to_instance_profile", **words) == [
        ("iam:AddRoleToInstanceProfile", f"arn:aws:iam::{ACCOUNT}:instance-profile/empty", {}),
        (
            "iam:PassRole",
            f"arn:aws:iam::{ACCOUNT}:role/other",
            {"iam:PassedToService": "ec2.amazonaws.com"},
        ),
    ]


def test_a_new_role_has_the_boundary_of_the_request_alone(asked, world):
    boundary = f"arn:aws:iam::{ACCOUNT}:policy/limit"
    limit = {"iam:PermissionsBoundary": boundary}
    role = {"RoleName": "new", "AssumeRolePolicyDocument": TRUST}
    where = f"arn:aws:iam::{ACCOUNT}:role/new"
    assert asked("iam", "create_role", **role, PermissionsBoundary=boundary) == [
        ("iam:CreateRole", where, limit)
    ]
    words = {"RoleName": "new", "PolicyName": "x", "PolicyDocument": ALLOW}
    assert asked("iam", "put_role_policy", **words) == [("iam:PutRolePolicy", where, limit)]


def test_names_in_dns_are_compared_in_one_form(asked, world):
    made = world.client("route53").create_hosted_zone(Name="a.test", CallerReference="1")
    zone = made["HostedZone"]["Id"]
    records = {
        "Name": "WWW.a.test.",
        "Type": "A",
        "TTL": 1,
        "ResourceRecords": [{"Value": "1.2.3.4"}],
    }
    batch = {"Changes": [{"Action": "UPSERT", "ResourceRecordSet": records}]}
    [found] = asked("route53", "change_resource_record_sets", HostedZoneId=zone, ChangeBatch=batch)
    key = "route53:ChangeResourceRecordSets"
    assert found[1] == f"arn:aws:route53:::{zone.strip('/')}"
    assert found[2] == {
        f"{key}NormalizedRecordNames": ["www.a.test"],
        f"{key}RecordTypes": ["A"],
        f"{key}Actions": ["UPSERT"],
    }


def test_an_alarm_has_the_actions_of_every_state(asked):
    words = {"Namespace": "a", "MetricName": "b", "Period": 60, "EvaluationPeriods": 1}
    words |= {"Threshold": 1, "Statistic": "Sum", "ComparisonOperator": "LessThanThreshold"}
    actions = {"AlarmActions": ["arn:a"], "OKActions": ["arn:b"]}
    [found] = asked("cloudwatch", "put_metric_alarm", AlarmName="x", **words, **actions)
    assert found[1:] == (
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
def test_a_name_becomes_an_arn(asked, service, call, parameters, resource):
    [found] = asked(service, call, **parameters)
    assert found[1] == "arn:aws:" + resource.format(f"{REGION}:{ACCOUNT}")
