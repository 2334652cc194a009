"""AWS's answers, read as the steps need them; moto answers in this process."""

from __future__ import annotations

from dataclasses import replace

import boto3
import pytest
from moto import mock_aws

from daybook import aws
from daybook.target import Target

REGION = "us-east-1"


@pytest.fixture
def here(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws():
        yield Target("sandbox", "123456789012", REGION, {})


@pytest.fixture
def route53(here):
    return boto3.client("route53")


def make_zone(route53, name, **options) -> str:
    zone = route53.create_hosted_zone(Name=name, CallerReference=str(options), **options)
    return zone["HostedZone"]["Id"].removeprefix("/hostedzone/")


def test_a_target_has_one_client_a_service_and_another_target_its_own(here):
    assert aws.client(here, "s3") is aws.client(here, "s3")
    assert aws.client(here, "s3") is not aws.client(here, "ec2")
    assert aws.client(replace(here), "s3") is not aws.client(here, "s3")


def test_a_zone_is_found_by_its_whole_name(here, route53):
    make_zone(route53, "a.daybook.test")
    wanted = make_zone(route53, "daybook.test")
    assert aws.zone_id(here, "daybook.test") == wanted
    assert aws.zone_id(here, "book.test") is None


def test_a_private_zone_is_not_the_one(here, route53):
    vpc = boto3.client("ec2", region_name=REGION).describe_vpcs()["Vpcs"][0]["VpcId"]
    private = {"HostedZoneConfig": {"PrivateZone": True, "Comment": ""}}
    make_zone(route53, "daybook.test", VPC={"VPCRegion": REGION, "VPCId": vpc}, **private)
    assert aws.zone_id(here, "daybook.test") is None
    public = make_zone(route53, "daybook.test")
    assert aws.zone_id(here, "daybook.test") == public


def test_a_zone_has_the_tags_of_who_made_it(here, route53):
    zone = make_zone(route53, "daybook.test")
    assert aws.zone_tags(here, zone) == {}
    tags = [{"Key": "app", "Value": "hello"}]
    route53.change_tags_for_resource(ResourceType="hostedzone", ResourceId=zone, AddTags=tags)
    assert aws.zone_tags(here, zone) == {"app": "hello"}


def test_a_missing_bucket_object_image_and_repository_are_no_errors(here):
    assert not aws.bucket_exists(here, "hello-state")
    boto3.client("s3", region_name=REGION).create_bucket(Bucket="hello-state")
    assert aws.bucket_exists(here, "hello-state")
    assert not aws.object_exists(here, "hello-state", "account/terraform.tfstate")
    assert not aws.repository_exists(here, "hello")
    assert aws.image_digest(here, "hello", "latest") is None


def test_the_caller_is_named(here):
    assert aws.caller(here)["account"] == "123456789012"
