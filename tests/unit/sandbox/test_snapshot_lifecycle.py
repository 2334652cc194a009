"""Data Lifecycle Manager, tested through boto3."""

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


def test_a_policy_is_created_updated_and_deleted(session):
    dlm = session("dlm")
    name = dlm.create_lifecycle_policy(**POLICY)["PolicyId"]
    policy = dlm.get_lifecycle_policy(PolicyId=name)["Policy"]
    assert {key: policy[key] for key in POLICY} == POLICY
    assert policy["PolicyArn"] == f"arn:aws:dlm:eu-west-1:123456789012:policy/{name}"
    dlm.update_lifecycle_policy(PolicyId=name, State="DISABLED")
    (summary,) = dlm.get_lifecycle_policies()["Policies"]
    assert (summary["PolicyId"], summary["State"]) == (name, "DISABLED")
    dlm.delete_lifecycle_policy(PolicyId=name)
    with pytest.raises(dlm.exceptions.ResourceNotFoundException):
        dlm.get_lifecycle_policy(PolicyId=name)


def test_tags_are_added_and_removed(session):
    dlm = session("dlm")
    name = dlm.create_lifecycle_policy(**POLICY)["PolicyId"]
    arn = dlm.get_lifecycle_policy(PolicyId=name)["Policy"]["PolicyArn"]
    dlm.tag_resource(ResourceArn=arn, Tags={"environment": "staging"})
    dlm.untag_resource(ResourceArn=arn, TagKeys=["app"])
    assert dlm.list_tags_for_resource(ResourceArn=arn)["Tags"] == {"environment": "staging"}


def test_other_services_are_still_motos(session):
    assert session("sts").get_caller_identity()["Account"] == "123456789012"
