"""Conditional writes hold when two come at the same moment."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.backends import get_backend
from moto.s3.models import S3Backend

from daybook_sandbox import atomic_writes

BUCKET = {"Bucket": "state", "Key": "k"}


@pytest.fixture
def clients(monkeypatch):
    """Give two clients of a bucket whose conditions are always looked at by both at once."""
    atomic_writes.patch()
    meeting, look = threading.Barrier(2), S3Backend.get_object

    def look_together(self, *args, **kwargs):
        found = look(self, *args, **kwargs)
        try:
            meeting.wait(0.5)
        except threading.BrokenBarrierError:
            meeting.reset()
        return found

    with mock_aws():
        made = [boto3.client("s3", region_name="us-east-1") for _ in range(2)]
        made[0].create_bucket(Bucket="state")
        yield made, lambda: monkeypatch.setattr(S3Backend, "get_object", look_together)


def answers(clients, **condition) -> list[int]:
    """Write from both clients at once; return the two status codes."""

    def status(client) -> int:
        try:
            done = client.put_object(**BUCKET, Body=str(id(client)).encode(), **condition)
        except ClientError as err:
            done = err.response
        return done["ResponseMetadata"]["HTTPStatusCode"]

    with ThreadPoolExecutor(2) as pool:
        return sorted(pool.map(status, clients))


def test_one_of_two_creates_an_object(clients):
    both, begin = clients
    begin()
    assert answers(both, IfNoneMatch="*") == [200, 412]


def test_one_of_two_replaces_an_object(clients):
    both, begin = clients
    etag = both[0].put_object(**BUCKET, Body=b"first")["ETag"]
    begin()
    assert answers(both, IfMatch=etag) == [200, 412]


def test_patching_twice_wraps_once():
    atomic_writes.patch()
    once = atomic_writes.S3Response.put_object
    atomic_writes.patch()
    assert atomic_writes.S3Response.put_object is once


def test_a_change_of_a_zone_does_not_undo_another():
    atomic_writes.patch()
    both_have_looked = threading.Barrier(2)

    class Looked(list):
        """Records over which two go at once, unless the second has to wait for the first."""

        def __iter__(self):
            with suppress(threading.BrokenBarrierError):
                both_have_looked.wait(0.5)
            return super().__iter__()

    with mock_aws():
        route53 = get_backend("route53")["123456789012"]["aws"]
        zone = route53.create_hosted_zone("daybook.test", False, None, None, "", None)
        names = ("one.daybook.test", "two.daybook.test")
        route53.change_resource_record_sets(zone.id, [change("CREATE", name) for name in names])
        zone.rrsets = Looked(zone.rrsets)
        with ThreadPoolExecutor() as several:
            changes = [[change("DELETE", name)] for name in names]
            list(several.map(route53.change_resource_record_sets, [zone.id] * 2, changes))
        assert [each.name for each in zone.rrsets if each.type == "A"] == []


def change(action: str, name: str) -> dict:
    record = {"Name": name, "Type": "A", "TTL": "60", "ResourceRecords": [{"Value": "10.0.0.1"}]}
    return {"Action": action, "ResourceRecordSet": record}
