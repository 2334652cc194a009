"""An environment's own role at work: Terraform with it, and everything that it is refused."""

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
    KEYS,
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
    """A job of GitHub's in one environment, with the environment's role. keys: its credentials."""

    cloud: Cloud
    env: str
    keys: dict[str, str] = field(repr=False)

    def client(self, service: str) -> Any:
        found = {key.lower(): value for key, value in self.keys.items()}
        return boto3.client(
            service,
            endpoint_url=self.cloud.env["AWS_ENDPOINT_URL"],
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
            **found,
        )

    def may(self, service: str, call: str, **parameters: Any) -> bool:
        """Tell whether a call is allowed; what comes of it is all the same."""
        try:
            getattr(self.client(service), call)(**parameters)
        except ClientError as err:
            return err.response["Error"]["Code"] not in REFUSALS
        return True


def become(cloud: Cloud, env: str, subject: str | None = None) -> Workflow:
    """Return a job's role, which AWS gives for GitHub's word."""
    said = {"iss": f"https://{HOST}", "aud": "sts.amazonaws.com"}
    said["sub"] = subject or f"repo:{GITHUB['repository']}:environment:{env}"
    found = cloud.client("sts").assume_role_with_web_identity(
        RoleArn=f"{ROLES}/hello-github-run-{env}",
        RoleSessionName="workflow",
        WebIdentityToken=json.dumps(said),
    )["Credentials"]
    keys = {
        "AWS_ACCESS_KEY_ID": found["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": found["SecretAccessKey"],
        "AWS_SESSION_TOKEN": found["SessionToken"],
    }
    return Workflow(cloud, env, keys)


def provision(cloud: Cloud, env: str, number: int, keys: dict[str, str]) -> Folder:
    """Apply terraform/environment with a role's credentials."""
    own = {"cidr": f"10.{number}.0.0/16", "public_keys": KEYS[:1], **OPTIONS}
    own |= {"names": ENVIRONMENTS[env]["names"], "deploy_via": "ssm", "github": GITHUB}
    folder = _environment_folder(cloud, env, **own)
    folder = replace(folder, env={**folder.env, **keys})
    folder.init()
    folder.terraform("apply", "-input=false", "-auto-approve")
    return folder


@pytest.fixture(scope="module")
def staging(cloud: Cloud, account: Folder) -> Iterator[Workflow]:
    """Provision staging with the role of its workflows, from nothing, and take it down with it."""
    it = become(cloud, "staging")
    folder = provision(cloud, "staging", 20, it.keys)
    yield it
    folder.terraform("destroy", "-input=false", "-auto-approve")


@pytest.fixture(scope="module")
def production(cloud: Cloud, account: Folder) -> dict[str, Any]:
    """Provision production with its own role; return its ids by their kind."""
    it = become(cloud, "production")
    provision(cloud, "production", 30, it.keys)
    ssm, s3 = it.client("ssm"), it.client("s3")
    ssm.put_parameter(Name="/hello/production/TOKEN", Value="x", Type="SecureString")
    s3.put_object(Bucket=BUCKET, Key="locks/production.json", Body=b"{}")
    s3.put_object(Bucket=RECORDS, Key="production/run/record.json", Body=b"{}")
    ec2, mine = it.client("ec2"), [{"Name": "tag:environment", "Values": ["production"]}]
    [group] = ec2.describe_instances(Filters=mine)["Reservations"]
    [host] = group["Instances"]
    groups = ec2.describe_security_groups(Filters=mine)["SecurityGroups"]
    [address] = ec2.describe_addresses(Filters=mine)["Addresses"]
    policies = it.client("dlm").get_lifecycle_policies()["Policies"]
    return {
        "instance": host["InstanceId"],
        "subnet": host["SubnetId"],
        "vpc": host["VpcId"],
        "volume": host["BlockDeviceMappings"][0]["Ebs"]["VolumeId"],
        "interface": host["NetworkInterfaces"][0]["NetworkInterfaceId"],
        "group": next(each["GroupId"] for each in groups if each["GroupName"] != "default"),
        "default": next(each["GroupId"] for each in groups if each["GroupName"] == "default"),
        "address": address["AllocationId"],
        "association": address["AssociationId"],
        "policy": next(
            each["PolicyId"] for each in policies if "production" in each["Description"]
        ),
        "zone": account.outputs()["zone_id"],
    }


def tags(env: str) -> list[dict[str, str]]:
    return [{"Key": "app", "Value": "hello"}, {"Key": "environment", "Value": env}]


def record(name: str, zone: str) -> dict[str, Any]:
    values = [{"Value": "203.0.113.9"}]
    found = {"Name": name, "Type": "A", "TTL": 60, "ResourceRecords": values}
    change = {"Action": "UPSERT", "ResourceRecordSet": found}
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
    """Return calls by which the workflows of staging would touch production."""
    instance, state = ids["instance"], "env:/production/environment/terraform.tfstate"
    anywhere = [{"CidrIp": "0.0.0.0/0"}]
    rule = [{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": anywhere}]
    spec = {"TagSpecifications": [{"ResourceType": "security-group-rule", "Tags": tags("staging")}]}
    trust = '{"Version": "2012-10-17", "Statement": []}'
    launch = {"ImageId": "ami-0debian1300000001", "MinCount": 1, "MaxCount": 1}
    hidden = {"Bucket": BUCKET, "Key": state}
    named = [{"Key": "environment", "Value": "staging"}]
    return [
        ("ec2", "stop_instances", {"InstanceIds": [instance]}),
        ("ec2", "terminate_instances", {"InstanceIds": [instance]}),
        ("ec2", "reboot_instances", {"InstanceIds": [instance]}),
        ("ec2", "get_console_output", {"InstanceId": instance}),
        ("ec2", "create_tags", {"Resources": [instance], "Tags": named}),
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
        ("s3", "get_object", hidden),
        ("s3", "put_object", {**hidden, "Body": b""}),
        ("s3", "delete_object", hidden),
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
def test_the_role_of_staging_is_refused_what_is_productions(
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
def test_a_role_is_given_to_its_own_environment_alone(
    cloud: Cloud, account: Folder, subject: str
) -> None:
    assert become(cloud, "production").env == "production"
    with pytest.raises(ClientError, match="AccessDenied"):
        become(cloud, "production", subject)


def test_the_role_does_what_a_run_does(staging: Workflow) -> None:
    """Beside what Terraform asks for."""
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
