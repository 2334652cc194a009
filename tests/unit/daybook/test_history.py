"""The last change of a resource, by records and by CloudTrail."""

from __future__ import annotations

from datetime import UTC, datetime

import boto3
import pytest
from botocore.stub import Stubber

from daybook import aws
from daybook.record import history
from daybook.record.journal import Journal
from daybook.target import Target

TARGET = Target("aws", "123456789012", "us-east-1", {})


def run(root, number: int, *changed: str, target: str = "aws", name: str = "Ann") -> str:
    """Write a run's journal and return its id."""
    run_id = f"2026112{number}T000000Z-provision-{number}"
    header = {"run": run_id, "step": "provision", "environment": "staging", "target": target}
    header["operator"] = {"name": name, "email": "ann@example.com", "user": "ann"}
    journal = Journal.create(root / "runs/staging" / run_id, header)
    for address in changed:
        journal.write("change", tool="terraform", action="update", what=address)
    journal.close("succeeded")
    return run_id


def test_the_newest_run_with_a_change_is_returned(tmp_path):
    (tmp_path / "runs").mkdir()
    older = run(tmp_path, 1, "aws_vpc.this", "aws_eip.host")
    newer = run(tmp_path, 2, "aws_vpc.this", name="Bob")
    run(tmp_path, 3, "aws_vpc.this", target="sandbox")
    addresses = {"aws_vpc.this", "aws_eip.host", "aws_subnet.x"}
    assert history.by_records(tmp_path, "staging", "aws", addresses) == {
        "aws_vpc.this": f"Bob in {newer}",
        "aws_eip.host": f"Ann in {older}",
    }


@pytest.fixture
def trail(monkeypatch):
    client = boto3.client(
        "cloudtrail", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="y"
    )
    monkeypatch.setattr(aws, "client", lambda _target, _service: client)
    with Stubber(client) as stubber:
        yield stubber


def test_the_last_call_with_a_change_is_returned(trail):
    time = datetime(2026, 11, 23, 18, 45, tzinfo=UTC)
    read = {"EventName": "DescribeVpcs", "ReadOnly": "true", "EventTime": time}
    change = {"EventName": "AuthorizeSecurityGroupIngress", "ReadOnly": "false"}
    change |= {"Username": "bob", "EventTime": time}
    key = {"AttributeKey": "ResourceName", "AttributeValue": "sg-1"}
    response = {"Events": [read, change]}
    trail.add_response("lookup_events", response, {"LookupAttributes": [key]})
    last = "AuthorizeSecurityGroupIngress by bob at 2026-11-23T18:45Z"
    assert history.by_trail(TARGET, ["sg-1", "sg-1"]) == {"sg-1": last}


def test_without_permission_to_read_the_trail_the_result_is_empty(trail):
    trail.add_client_error("lookup_events", "AccessDeniedException")
    assert history.by_trail(TARGET, ["sg-1", "sg-2"]) == {}
