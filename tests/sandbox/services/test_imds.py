"""The metadata service, tested on a machine."""

from __future__ import annotations

import json

import boto3
import pytest

pytestmark = pytest.mark.sandbox

BASE = "http://169.254.169.254/latest"
TOKEN = f"$(curl -sf -m 5 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' {BASE}/api/token)"


def read(host, path: str) -> str:
    """Read a path on the host, with a token."""
    return host.ssh(f'curl -sf -m 5 -H "X-aws-ec2-metadata-token: {TOKEN}" {BASE}/{path}')


def test_a_token_is_required(host):
    status = "curl -s -m 5 -o /dev/null -w '%{http_code}'"
    assert host.ssh(f"{status} {BASE}/meta-data/instance-id") == "401"
    wrong = "-H 'X-aws-ec2-metadata-token: wrong'"
    assert host.ssh(f"{status} {wrong} {BASE}/meta-data/instance-id") == "401"


def test_machine_reads_its_metadata(host):
    facts = {
        "instance-id": host.id,
        "local-ipv4": host.private_ip,
        "public-ipv4": host.public_ip,
        "placement/region": "us-east-1",
        "iam/security-credentials/": host.role,
    }
    assert {name: read(host, f"meta-data/{name}") for name in facts} == facts


def test_credentials_belong_to_the_instances_role(host, sandbox):
    credentials = json.loads(read(host, f"meta-data/iam/security-credentials/{host.role}"))
    sts = boto3.client(
        "sts",
        endpoint_url=sandbox.env["AWS_ENDPOINT_URL"],
        region_name=sandbox.env["AWS_REGION"],
        aws_access_key_id=credentials["AccessKeyId"],
        aws_secret_access_key=credentials["SecretAccessKey"],
        aws_session_token=credentials["Token"],
    )
    expected = f"arn:aws:sts::123456789012:assumed-role/{host.role}/{host.id}"
    assert sts.get_caller_identity()["Arn"] == expected


def test_api_is_reachable_from_the_machine(host):
    call = "curl -s -o /dev/null -w '%{http_code}' $AWS_ENDPOINT_URL/moto-api/"
    assert host.ssh(call) == "200"
