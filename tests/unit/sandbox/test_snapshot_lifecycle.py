"""The snapshots' scheduler as AWS's own client sees it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from daybook_sandbox import snapshot_lifecycle

DETAILS = {"ResourceTypes": ["VOLUME"], "TargetTags": [{"Key": "snapshots", "Value": "web"}]}
POLICY = {
    "Description": "daily",
    "State": "ENABLED",
    "ExecutionRoleArn": "arn:aws:iam::123456789012:role/web-snapshots",
    "PolicyDetails": DETAILS,
    "Tags": {"app": "web"},
}


@pytest.fixture(scope="module")
def session() -> Iterator[Any]:
    snapshot_lifecycle.patch("123456789012")
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    yield lambda name: boto3.client(name, endpoint_url=url, region_name="eu-west-1", **keys)
    server.stop()


def test_a_policy_lives_as_it_was_asked_for(session):
    dlm = session("dlm")
    name = dlm.create_lifecycle_policy(**POLICY)["PolicyId"]
    found = dlm.get_lifecycle_policy(PolicyId=name)["Policy"]
    assert {key: found[key] for key in POLICY} == POLICY
    assert found["PolicyArn"] == f"arn:aws:dlm:eu-west-1:123456789012:policy/{name}"
    dlm.update_lifecycle_policy(PolicyId=name, State="DISABLED")
    (short,) = dlm.get_lifecycle_policies()["Policies"]
    assert (short["PolicyId"], short["State"]) == (name, "DISABLED")
    dlm.delete_lifecycle_policy(PolicyId=name)
    with pytest.raises(dlm.exceptions.ResourceNotFoundException):
        dlm.get_lifecycle_policy(PolicyId=name)


def test_tags_come_and_go(session):
    dlm = session("dlm")
    name = dlm.create_lifecycle_policy(**POLICY)["PolicyId"]
    arn = dlm.get_lifecycle_policy(PolicyId=name)["Policy"]["PolicyArn"]
    dlm.tag_resource(ResourceArn=arn, Tags={"environment": "staging"})
    dlm.untag_resource(ResourceArn=arn, TagKeys=["app"])
    assert dlm.list_tags_for_resource(ResourceArn=arn)["Tags"] == {"environment": "staging"}


def test_other_services_are_moto_s(session):
    assert session("sts").get_caller_identity()["Account"] == "123456789012"
