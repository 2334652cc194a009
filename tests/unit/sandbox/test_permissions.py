"""The API permissions of an instance's role."""

from __future__ import annotations

import json

import boto3
import pytest
from botocore.exceptions import ClientError
from moto.core.authorization import ActionAuthenticatorMixin

from daybook_sandbox import metadata, permissions
from daybook_sandbox.api import REGION

OWN = "arn:aws:ssm:us-east-1:123456789012:parameter/hello/staging"
LOGS = {"StringEquals": {"cloudwatch:namespace": "hello"}}
HERE = {"StringEquals": {"aws:RequestedRegion": REGION}}
POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": "ssm:Get*", "Resource": [OWN, f"{OWN}/*"]},
        {"Effect": "Allow", "Action": "ecr:*", "Resource": "arn:aws:ecr:*:*:repository/hello"},
        {"Effect": "Allow", "Action": "cloudwatch:*", "Resource": "*", "Condition": LOGS},
        {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::records"},
        {"Effect": "Allow", "Action": "s3:*Object", "Resource": "arn:aws:s3:::records/mine/*"},
        {"Effect": "Allow", "Action": "ec2:Describe*", "Resource": "*", "Condition": HERE},
    ],
}


@pytest.fixture
def on_host(world, monkeypatch):
    """Return a function that creates clients with the instance's credentials."""
    monkeypatch.setattr(
        ActionAuthenticatorMixin,
        "_authenticate_and_authorize_action",
        permissions._authorize,
    )
    iam = world.client("iam")
    iam.put_role_policy(RoleName="hello-host", PolicyName="host", PolicyDocument=json.dumps(POLICY))
    role = metadata.role_of(world.cloud, world.instance)
    credentials = metadata.assume_role(world.cloud, world.instance, role)
    session = boto3.Session(
        credentials["AccessKeyId"], credentials["SecretAccessKey"], credentials["Token"], REGION
    )
    return session.client


def denied():
    codes = ("AccessDenied", "AccessDeniedException")
    return pytest.raises(ClientError, check=lambda e: e.response["Error"]["Code"] in codes)


def test_a_host_reads_only_its_own_parameters(on_host, world):
    for env in ("staging", "production"):
        world.client("ssm").put_parameter(Name=f"/hello/{env}/KEY", Value=env, Type="SecureString")
    ssm = on_host("ssm")
    parameters = ssm.get_parameters_by_path(Path="/hello/staging/", WithDecryption=True)[
        "Parameters"
    ]
    assert [parameter["Value"] for parameter in parameters] == ["staging"]
    assert ssm.get_parameter(Name="/hello/staging/KEY", WithDecryption=True)
    for denied_call in (
        lambda: ssm.get_parameter(Name="/hello/production/KEY"),
        lambda: ssm.get_parameters(Names=["/hello/staging/KEY", "/hello/production/KEY"]),
        lambda: ssm.get_parameters_by_path(Path="/hello"),
        lambda: ssm.put_parameter(Name="/hello/staging/KEY", Value="x", Overwrite=True),
    ):
        with denied():
            denied_call()


def test_a_host_reads_only_its_repository(on_host, world):
    for name in ("hello", "other"):
        world.client("ecr").create_repository(repositoryName=name)
    ecr = on_host("ecr")
    assert ecr.describe_images(repositoryName="hello")["imageDetails"] == []
    assert ecr.describe_repositories(repositoryNames=["hello"])["repositories"]
    for denied_call in (
        lambda: ecr.describe_images(repositoryName="other"),
        lambda: ecr.describe_repositories(repositoryNames=["hello", "other"]),
        lambda: ecr.describe_repositories(),
    ):
        with denied():
            denied_call()


def test_a_condition_is_enforced(on_host):
    data = [{"MetricName": "disk", "Value": 1}]
    on_host("cloudwatch").put_metric_data(Namespace="hello", MetricData=data)
    with denied():
        on_host("cloudwatch").put_metric_data(Namespace="other", MetricData=data)


def test_a_host_has_no_access_to_other_buckets(on_host, world):
    world.client("s3").create_bucket(Bucket="state")
    for denied_call in (
        lambda: on_host("s3").put_object(Bucket="state", Key="key", Body=b""),
        lambda: on_host("s3").get_object(Bucket="state", Key="key"),
        lambda: on_host("s3").list_objects_v2(Bucket="state"),
    ):
        with denied():
            denied_call()


def test_a_host_has_only_the_listed_calls_and_keys_of_a_bucket(on_host, world):
    world.client("s3").create_bucket(Bucket="records")
    s3 = on_host("s3")
    s3.head_bucket(Bucket="records")
    s3.put_object(Bucket="records", Key="mine/1", Body=b"one")
    assert s3.get_object(Bucket="records", Key="mine/1")["Body"].read() == b"one"
    assert s3.head_object(Bucket="records", Key="mine/1")["ContentLength"] == 3
    assert s3.list_objects_v2(Bucket="records")["KeyCount"] == 1
    for denied_call in (
        lambda: s3.put_object(Bucket="records", Key="theirs/1", Body=b"one"),
        lambda: s3.get_bucket_policy(Bucket="records"),
        lambda: s3.list_buckets(),
        lambda: s3.delete_bucket(Bucket="records"),
    ):
        with denied():
            denied_call()


def test_the_requested_region_is_a_condition_key(on_host):
    assert on_host("ec2").describe_vpcs()["Vpcs"]


def test_get_caller_identity_is_always_allowed(on_host, world):
    assert on_host("sts").get_caller_identity()["Arn"].endswith(f"/{world.instance.id}")


def test_the_operator_may_do_everything(on_host, world):
    world.client("s3").create_bucket(Bucket="state")
    assert world.client("s3").list_objects_v2(Bucket="state")["KeyCount"] == 0
