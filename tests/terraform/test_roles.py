"""The role of an environment provisions it and is refused access to other environments."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from .test_config import (
    ACCOUNT,
    BUCKET,
    ENVIRONMENTS,
    GITHUB,
    RECORDS,
    ROLES,
    Cloud,
    Folder,
    _environment_folder,
    account,
    cloud,
)

__all__ = ("account", "cloud")
pytestmark = [pytest.mark.skipif(not shutil.which("terraform"), reason="terraform is not on PATH")]
HOST = "token.actions.githubusercontent.com"
REFUSALS = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError"}
OPTIONS = {"alarm_email": "ops@example.com", "flow_log_days": 7, "snapshot_days": 14}


@dataclass(frozen=True)
class Workflow:
    """A GitHub job in one environment, with the role of that environment. keys: its credentials."""

    cloud: Cloud
    env: str
    keys: dict[str, str] = field(repr=False)

    def client(self, service: str) -> Any:
        credentials = {key.lower(): value for key, value in self.keys.items()}
        return boto3.client(
            service,
            endpoint_url=self.cloud.env["AWS_ENDPOINT_URL"],
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
            **credentials,
        )

    def may(self, service: str, call: str, **parameters: Any) -> bool:
        """Return whether a call is allowed; its result does not matter."""
        try:
            getattr(self.client(service), call)(**parameters)
        except ClientError as err:
            return err.response["Error"]["Code"] not in REFUSALS
        return True


def assume_role(cloud: Cloud, env: str, subject: str | None = None) -> Workflow:
    """Exchange a GitHub token for the role of an environment."""
    claims = {"iss": f"https://{HOST}", "aud": "sts.amazonaws.com"}
    claims["sub"] = subject or f"repo:{GITHUB['repository']}:environment:{env}"
    credentials = cloud.client("sts").assume_role_with_web_identity(
        RoleArn=f"{ROLES}/hello-github-run-{env}",
        RoleSessionName="workflow",
        WebIdentityToken=json.dumps(claims),
    )["Credentials"]
    keys = {
        "AWS_ACCESS_KEY_ID": credentials["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": credentials["SecretAccessKey"],
        "AWS_SESSION_TOKEN": credentials["SessionToken"],
    }
    return Workflow(cloud, env, keys)


def provision(cloud: Cloud, env: str, number: int, keys: dict[str, str]) -> Folder:
    """Apply terraform/environment with a role's credentials."""
    folder = _environment_folder(
        cloud,
        env,
        vpc_cidr=f"10.{number}.0.0/16",
        domains=ENVIRONMENTS[env]["domains"],
        deploy_via="ssm",
        github={"repository": GITHUB["repository"], "branch": "main"},
        **OPTIONS,
    )
    folder = replace(folder, env={**folder.env, **keys})
    folder.init()
    folder.terraform("apply", "-input=false", "-auto-approve")
    return folder


@pytest.fixture(scope="module")
def staging(cloud: Cloud, account: Folder) -> Iterator[Workflow]:
    """Provision staging with the role of its workflows, and destroy it with the same role."""
    workflow = assume_role(cloud, "staging")
    folder = provision(cloud, "staging", 20, workflow.keys)
    yield workflow
    folder.terraform("destroy", "-input=false", "-auto-approve")


@pytest.fixture(scope="module")
def production(cloud: Cloud, account: Folder) -> dict[str, Any]:
    """Provision production with its own role; return the ids of its resources by kind."""
    workflow = assume_role(cloud, "production")
    provision(cloud, "production", 30, workflow.keys)
    ssm, s3 = workflow.client("ssm"), workflow.client("s3")
    ssm.put_parameter(Name="/hello/production/TOKEN", Value="x", Type="SecureString")
    s3.put_object(Bucket=BUCKET, Key="locks/production.json", Body=b"{}")
    s3.put_object(Bucket=RECORDS, Key="production/run/record.json", Body=b"{}")
    ec2, filters = workflow.client("ec2"), [{"Name": "tag:environment", "Values": ["production"]}]
    [reservation] = ec2.describe_instances(Filters=filters)["Reservations"]
    [host] = reservation["Instances"]
    groups = ec2.describe_security_groups(Filters=filters)["SecurityGroups"]
    [address] = ec2.describe_addresses(Filters=filters)["Addresses"]
    policies = workflow.client("dlm").get_lifecycle_policies()["Policies"]
    return {
        "instance": host["InstanceId"],
        "subnet": host["SubnetId"],
        "vpc": host["VpcId"],
        "volume": host["BlockDeviceMappings"][0]["Ebs"]["VolumeId"],
        "interface": host["NetworkInterfaces"][0]["NetworkInterfaceId"],
        "group": next(group["GroupId"] for group in groups if group["GroupName"] != "default"),
        "default": next(group["GroupId"] for group in groups if group["GroupName"] == "default"),
        "address": address["AllocationId"],
        "association": address["AssociationId"],
        "policy": next(
            policy["PolicyId"] for policy in policies if "production" in policy["Description"]
        ),
        "zone": account.outputs()["zone_id"],
    }


def tags(env: str) -> list[dict[str, str]]:
    return [{"Key": "app", "Value": "hello"}, {"Key": "environment", "Value": env}]


def record(name: str, zone: str) -> dict[str, Any]:
    values = [{"Value": "203.0.113.9"}]
    record_set = {"Name": name, "Type": "A", "TTL": 60, "ResourceRecords": values}
    change = {"Action": "UPSERT", "ResourceRecordSet": record_set}
    return {"HostedZoneId": zone, "ChangeBatch": {"Changes": [change]}}


def alarm(name: str, instance: str, action: str) -> dict[str, Any]:
    return {
        "AlarmName": name,
        "AlarmActions": [action],
        "Namespace": "AWS/EC2",
        "MetricName": "CPUUtilization",
        "Dimensions": [{"Name": "InstanceId", "Value": instance}],
        "Statistic": "Maximum",
        "Period": 60,
        "EvaluationPeriods": 1,
        "Threshold": 0,
        "ComparisonOperator": "GreaterThanThreshold",
    }


def refused_calls(ids: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Return calls in which workflows of staging would access production."""
    instance, state = ids["instance"], "env:/production/environment/terraform.tfstate"
    all_addresses = [{"CidrIp": "0.0.0.0/0"}]
    rule = [{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": all_addresses}]
    spec = {"TagSpecifications": [{"ResourceType": "security-group-rule", "Tags": tags("staging")}]}
    trust = '{"Version": "2012-10-17", "Statement": []}'
    launch = {"ImageId": "ami-0debian1300000001", "MinCount": 1, "MaxCount": 1}
    state_object = {"Bucket": BUCKET, "Key": state}
    staging_tag = [{"Key": "environment", "Value": "staging"}]
    return [
        ("ec2", "stop_instances", {"InstanceIds": [instance]}),
        ("ec2", "terminate_instances", {"InstanceIds": [instance]}),
        ("ec2", "reboot_instances", {"InstanceIds": [instance]}),
        ("ec2", "get_console_output", {"InstanceId": instance}),
        ("ec2", "create_tags", {"Resources": [instance], "Tags": staging_tag}),
        ("ec2", "create_tags", {"Resources": [ids["group"]], "Tags": tags("staging")}),
        ("ec2", "create_tags", {"Resources": [ids["default"]], "Tags": tags("staging")}),
        ("ec2", "delete_tags", {"Resources": [instance], "Tags": [{"Key": "environment"}]}),
        ("ec2", "modify_instance_attribute", {"InstanceId": instance, "Groups": [ids["default"]]}),
        (
            "ec2",
            "authorize_security_group_ingress",
            {"GroupId": ids["group"], "IpPermissions": rule, **spec},
        ),
        (
            "ec2",
            "create_subnet",
            {
                "VpcId": ids["vpc"],
                "CidrBlock": "10.30.99.0/24",
                "TagSpecifications": [{"ResourceType": "subnet", "Tags": tags("staging")}],
            },
        ),
        (
            "ec2",
            "run_instances",
            {
                **launch,
                "SubnetId": ids["subnet"],
                "TagSpecifications": [{"ResourceType": "instance", "Tags": tags("staging")}],
            },
        ),
        ("ec2", "release_address", {"AllocationId": ids["address"]}),
        ("ec2", "disassociate_address", {"AssociationId": ids["association"]}),
        (
            "ec2",
            "create_snapshot",
            {
                "VolumeId": ids["volume"],
                "TagSpecifications": [{"ResourceType": "snapshot", "Tags": tags("staging")}],
            },
        ),
        ("ec2", "delete_key_pair", {"KeyName": "hello-production"}),
        ("ec2", "delete_vpc", {"VpcId": ids["vpc"]}),
        ("s3", "get_object", state_object),
        ("s3", "put_object", {**state_object, "Body": b""}),
        ("s3", "delete_object", state_object),
        ("s3", "delete_object", {"Bucket": BUCKET, "Key": "locks/production.json"}),
        ("s3", "put_object", {"Bucket": BUCKET, "Key": "locks/production.json", "Body": b""}),
        (
            "s3",
            "put_object",
            {"Bucket": BUCKET, "Key": "waiting/production/plan-1.json", "Body": b""},
        ),
        (
            "s3",
            "put_object",
            {"Bucket": BUCKET, "Key": "approvals/production/1/a.json", "Body": b""},
        ),
        ("s3", "list_objects_v2", {"Bucket": BUCKET, "Prefix": "approvals/production/"}),
        ("s3", "get_object", {"Bucket": RECORDS, "Key": "production/run/record.json"}),
        ("s3", "put_object", {"Bucket": RECORDS, "Key": "production/run/record.json", "Body": b""}),
        ("s3", "get_object", {"Bucket": BUCKET, "Key": "account/terraform.tfstate"}),
        ("ssm", "get_parameter", {"Name": "/hello/production/TOKEN", "WithDecryption": True}),
        ("ssm", "get_parameters_by_path", {"Path": "/hello", "Recursive": True}),
        (
            "ssm",
            "put_parameter",
            {"Name": "/hello/production/TOKEN", "Value": "y", "Overwrite": True},
        ),
        ("ssm", "delete_parameter", {"Name": "/hello/production/TOKEN"}),
        ("ssm", "get_parameter", {"Name": "/hello/github/production/key"}),
        (
            "ssm",
            "put_parameter",
            {"Name": "/hello/account/review", "Value": "{}", "Overwrite": True},
        ),
        (
            "ssm",
            "put_parameter",
            {"Name": "/hello/account/reviewed", "Value": "0", "Overwrite": True},
        ),
        ("ssm", "delete_document", {"Name": "hello-production-release"}),
        (
            "ssm",
            "send_command",
            {"DocumentName": "hello-production-release", "InstanceIds": [instance]},
        ),
        ("route53", "change_resource_record_sets", record("daybook.test", ids["zone"])),
        (
            "route53",
            "change_resource_record_sets",
            record("hello-production-1.daybook.test", ids["zone"]),
        ),
        ("route53", "change_resource_record_sets", record("DAYBOOK.test.", ids["zone"])),
        ("cloudwatch", "delete_alarms", {"AlarmNames": ["hello-production-1-cpu"]}),
        (
            "cloudwatch",
            "put_metric_alarm",
            alarm("hello-production-1-cpu", instance, "arn:aws:automate:us-east-1:ec2:recover"),
        ),
        (
            "cloudwatch",
            "put_metric_alarm",
            alarm("hello-staging-1-cpu", instance, "arn:aws:automate:us-east-1:ec2:terminate"),
        ),
        (
            "sns",
            "delete_topic",
            {"TopicArn": f"arn:aws:sns:us-east-1:{ACCOUNT}:hello-production-alarms"},
        ),
        ("logs", "delete_log_group", {"logGroupName": "hello-production-flow"}),
        ("dlm", "delete_lifecycle_policy", {"PolicyId": ids["policy"]}),
        (
            "iam",
            "put_role_policy",
            {"RoleName": "hello-production-host", "PolicyName": "x", "PolicyDocument": trust},
        ),
        (
            "iam",
            "update_assume_role_policy",
            {"RoleName": "hello-production-host", "PolicyDocument": trust},
        ),
        ("iam", "delete_role", {"RoleName": "hello-production-host"}),
        (
            "iam",
            "add_role_to_instance_profile",
            {"InstanceProfileName": "hello-staging-host", "RoleName": "hello-production-host"},
        ),
        (
            "iam",
            "create_role",
            {"RoleName": "hello-staging-flow", "AssumeRolePolicyDocument": trust},
        ),
        (
            "iam",
            "create_role",
            {
                "RoleName": "hello-staging-flow",
                "AssumeRolePolicyDocument": trust,
                "PermissionsBoundary": f"arn:aws:iam::{ACCOUNT}:policy/hello-production-boundary",
            },
        ),
        (
            "iam",
            "put_role_policy",
            {"RoleName": "hello-github-run-staging", "PolicyName": "x", "PolicyDocument": trust},
        ),
        (
            "ec2",
            "run_instances",
            {
                **launch,
                "IamInstanceProfile": {"Name": "hello-production-host"},
                "TagSpecifications": [
                    {"ResourceType": "instance", "Tags": tags("staging")},
                    {"ResourceType": "volume", "Tags": tags("staging")},
                ],
            },
        ),
    ]


@pytest.mark.attack("F6", "staging's workflow calls AWS for production")
def test_the_role_of_staging_cannot_access_production(
    staging: Workflow, production: dict[str, Any]
) -> None:
    allowed = [
        f"{service}.{call}({parameters})"
        for service, call, parameters in refused_calls(production)
        if staging.may(service, call, **parameters)
    ]
    assert allowed == []


@pytest.mark.attack("F6", "a job of another environment becomes production's role")
@pytest.mark.parametrize(
    "subject",
    [
        "repo:octo-org/hello:environment:staging",
        "repo:octo-org/hello:environment:production-2",
        "repo:octo-org/hello:environment:Production",
        "repo:octo-org/hello:ref:refs/heads/main",
        "repo:octo-org/hello:pull_request",
        "repo:eve/hello:environment:production",
    ],
)
def test_a_role_can_be_assumed_by_its_own_environment_only(
    cloud: Cloud, account: Folder, subject: str
) -> None:
    assert assume_role(cloud, "production").env == "production"
    with pytest.raises(ClientError, match="AccessDenied"):
        assume_role(cloud, "production", subject)


def test_the_role_may_make_the_calls_of_a_run(staging: Workflow) -> None:
    """Terraform's own calls are covered by the provisioned environment."""
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("s3", "head_bucket", {"Bucket": BUCKET}),
        ("s3", "put_object", {"Bucket": BUCKET, "Key": "locks/staging.json", "Body": b""}),
        ("s3", "get_object", {"Bucket": BUCKET, "Key": "waiting/staging/plan-1.json"}),
        ("s3", "list_objects_v2", {"Bucket": BUCKET, "Prefix": "approvals/staging/"}),
        ("s3", "put_object", {"Bucket": RECORDS, "Key": "staging/run/record.json", "Body": b""}),
        ("ssm", "get_parameter", {"Name": "/hello/account/review"}),
        ("ssm", "describe_parameters", {}),
        ("ssm", "get_parameters_by_path", {"Path": "/hello/staging"}),
        ("iam", "list_roles", {}),
        (
            "iam",
            "get_policy",
            {"PolicyArn": f"arn:aws:iam::{ACCOUNT}:policy/hello-staging-boundary"},
        ),
        ("sns", "list_topics", {}),
        ("ecr", "describe_images", {"repositoryName": "hello"}),
        ("cloudtrail", "lookup_events", {}),
    ]
    assert [call for call in calls if not staging.may(call[0], call[1], **call[2])] == []
