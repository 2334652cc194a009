"""Small calls to AWS, against moto in this process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import boto3
import botocore.loaders
import pytest
from moto import mock_aws

from daybook import aws, settings, target
from daybook.target import Target

REGION = "us-east-1"


@pytest.fixture
def here(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws():
        yield Target("sandbox", "123456789012", REGION, {})


CHOSEN = {
    "app": "hello",
    "dns_zone": "x.test",
    "domains": ["x.test"],
    "vpc_cidr": "10.0.0.0/16",
}
SERVICES = ("sts", "ssm", "s3", "iam", "route53", "ec2", "ecr")
ELSEWHERE = "http://127.0.0.1:9"
LED_AWAY = {
    "a variable": {"AWS_ENDPOINT_URL": ELSEWHERE},
    "a service's variable": {f"AWS_ENDPOINT_URL_{each.upper()}": ELSEWHERE for each in SERVICES},
    "the configuration": {"AWS_CONFIG_FILE": "config"},
    "a profile": {"AWS_CONFIG_FILE": "config", "AWS_PROFILE": "work"},
    "models of one's own": {"AWS_DATA_PATH": "models"},
    "an authority of one's own": {"AWS_CA_BUNDLE": "ca.pem"},
}


@pytest.mark.attack("F3", "another server, or another authority, that answers as AWS")
@pytest.mark.parametrize("way", LED_AWAY)
def test_no_variable_or_file_redirects_calls_to_aws(monkeypatch, tmp_path, way):
    own = "".join(f"{each} =\n  endpoint_url = {ELSEWHERE}\n" for each in SERVICES)
    everywhere = f"endpoint_url = {ELSEWHERE}\nservices = x\nca_bundle = ca.pem\n"
    (tmp_path / "config").write_text(
        f"[default]\n{everywhere}[profile work]\n{everywhere}[services x]\n{own}"
    )
    if "models" in way:
        # Like ~/.aws/models, which botocore reads before its bundled data.
        builtin = Path(botocore.loaders.Loader.BUILTIN_DATA_PATH)
        (tmp_path / "models").mkdir()
        text = (builtin / "endpoints.json").read_text().replace("amazonaws.com", "evil.test")
        (tmp_path / "models/endpoints.json").write_text(text)
        path = str(tmp_path / "models")
        monkeypatch.setattr(botocore.loaders.Loader, "CUSTOMER_DATA_PATH", path)
    monkeypatch.chdir(tmp_path)
    for name, value in {**LED_AWAY[way], "AWS_ACCESS_KEY_ID": "a"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    chosen = settings.Settings(account="210987654321", ssh_allowed_cidrs=[], **CHOSEN)
    real = target.resolve(chosen, tmp_path, rehearse=False)
    for service in SERVICES:
        client = aws.client(real, service)
        assert client.meta.endpoint_url.startswith("https://")
        assert client.meta.endpoint_url.endswith(".amazonaws.com")
        assert client._endpoint.http_session._verify is True
    assert not [name for name in real.environ if name.startswith("AWS_ENDPOINT_URL")]


def test_a_rehearsal_uses_only_the_sandboxs_variables(monkeypatch, tmp_path):
    """A missing profile and another endpoint of the operator have no effect."""
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE"):
        monkeypatch.setenv(name, "work")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", ELSEWHERE)
    (tmp_path / ".sandbox").mkdir()
    lines = ("AWS_ENDPOINT_URL=http://127.0.0.1:7", "AWS_ACCESS_KEY_ID=a")
    lines += ("AWS_SECRET_ACCESS_KEY=b", "AWS_REGION=us-east-1")
    (tmp_path / ".sandbox/target.env").write_text("\n".join(lines))
    chosen = settings.Settings(account="210987654321", ssh_allowed_cidrs=[], **CHOSEN)
    sandbox = target.resolve(chosen, tmp_path, rehearse=True)
    assert aws.client(sandbox, "sts").meta.endpoint_url == "http://127.0.0.1:7"


@pytest.fixture
def route53(here):
    return boto3.client("route53")


def make_zone(route53, name, **options) -> str:
    zone = route53.create_hosted_zone(Name=name, CallerReference=str(options), **options)
    return zone["HostedZone"]["Id"].removeprefix("/hostedzone/")


def test_clients_are_cached_per_target_and_service(here):
    assert aws.client(here, "s3") is aws.client(here, "s3")
    assert aws.client(here, "s3") is not aws.client(here, "ec2")
    assert aws.client(replace(here), "s3") is not aws.client(here, "s3")


def test_a_zone_is_found_by_its_full_name(here, route53):
    make_zone(route53, "a.daybook.test")
    wanted = make_zone(route53, "daybook.test")
    assert aws.zone_id(here, "daybook.test") == wanted
    assert aws.zone_id(here, "book.test") is None


def test_a_private_zone_is_ignored(here, route53):
    vpc = boto3.client("ec2", region_name=REGION).describe_vpcs()["Vpcs"][0]["VpcId"]
    private = {"HostedZoneConfig": {"PrivateZone": True, "Comment": ""}}
    make_zone(route53, "daybook.test", VPC={"VPCRegion": REGION, "VPCId": vpc}, **private)
    assert aws.zone_id(here, "daybook.test") is None
    public = make_zone(route53, "daybook.test")
    assert aws.zone_id(here, "daybook.test") == public


def test_zone_tags_are_returned(here, route53):
    zone = make_zone(route53, "daybook.test")
    assert aws.zone_tags(here, zone) == {}
    tags = [{"Key": "app", "Value": "hello"}]
    route53.change_tags_for_resource(ResourceType="hostedzone", ResourceId=zone, AddTags=tags)
    assert aws.zone_tags(here, zone) == {"app": "hello"}


def test_missing_resources_are_not_errors(here):
    assert not aws.bucket_exists(here, "hello-state")
    boto3.client("s3", region_name=REGION).create_bucket(Bucket="hello-state")
    assert aws.bucket_exists(here, "hello-state")
    assert not aws.object_exists(here, "hello-state", "account/terraform.tfstate")
    assert not aws.repository_exists(here, "hello")
    assert aws.image_digest(here, "hello", "latest") is None


def test_caller_returns_account_and_arn(here):
    assert aws.caller(here)["account"] == "123456789012"
