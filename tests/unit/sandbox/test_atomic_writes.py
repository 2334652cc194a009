"""Concurrent writes are atomic."""

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
    """Yield two clients of a bucket, and a function that makes both check a condition at once."""
    atomic_writes.patch()
    barrier, get = threading.Barrier(2), S3Backend.get_object

    def get_together(self, *args, **kwargs):
        result = get(self, *args, **kwargs)
        try:
            barrier.wait(0.5)
        except threading.BrokenBarrierError:
            barrier.reset()
        return result

    with mock_aws():
        both = [boto3.client("s3", region_name="us-east-1") for _ in range(2)]
        both[0].create_bucket(Bucket="state")
        yield both, lambda: monkeypatch.setattr(S3Backend, "get_object", get_together)


def statuses(clients, **condition) -> list[int]:
    """Write from both clients at once; return both status codes in order."""

    def status(client) -> int:
        try:
            response = client.put_object(**BUCKET, Body=str(id(client)).encode(), **condition)
        except ClientError as err:
            response = err.response
        return response["ResponseMetadata"]["HTTPStatusCode"]

    with ThreadPoolExecutor(2) as pool:
        return sorted(pool.map(status, clients))


def test_only_one_of_two_clients_creates_an_object(clients):
    both, begin = clients
    begin()
    assert statuses(both, IfNoneMatch="*") == [200, 412]


def test_only_one_of_two_clients_replaces_an_object(clients):
    both, begin = clients
    etag = both[0].put_object(**BUCKET, Body=b"first")["ETag"]
    begin()
    assert statuses(both, IfMatch=etag) == [200, 412]


def test_patching_twice_wraps_once():
    atomic_writes.patch()
    once = atomic_writes.S3Response.put_object
    atomic_writes.patch()
    assert atomic_writes.S3Response.put_object is once


def test_concurrent_changes_of_a_zone_are_both_applied():
    atomic_writes.patch()
    barrier = threading.Barrier(2)

    class Records(list):
        """Records that two threads iterate over at once, unless one waits for the other."""

        def __iter__(self):
            with suppress(threading.BrokenBarrierError):
                barrier.wait(0.5)
            return super().__iter__()

    with mock_aws():
        route53 = get_backend("route53")["123456789012"]["aws"]
        zone = route53.create_hosted_zone("daybook.test", False, None, None, "", None)
        names = ("one.daybook.test", "two.daybook.test")
        route53.change_resource_record_sets(zone.id, [change("CREATE", name) for name in names])
        zone.rrsets = Records(zone.rrsets)
        with ThreadPoolExecutor() as pool:
            changes = [[change("DELETE", name)] for name in names]
            list(pool.map(route53.change_resource_record_sets, [zone.id] * 2, changes))
        assert [record.name for record in zone.rrsets if record.type == "A"] == []


def change(action: str, name: str) -> dict:
    record = {"Name": name, "Type": "A", "TTL": "60", "ResourceRecords": [{"Value": "10.0.0.1"}]}
    return {"Action": action, "ResourceRecordSet": record}
