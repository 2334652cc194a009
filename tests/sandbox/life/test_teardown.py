"""Teardown: the first leaves the other environment intact, the last leaves no resources."""

from __future__ import annotations

import dns.resolver
import httpx
import pytest

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(1800)]


def test_teardown_leaves_the_other_environment_intact(serving, life):
    gone = life.address("staging")
    assert "is left" in serving.step("teardown", "staging")
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://{gone}/", timeout=5)
    with pytest.raises(dns.resolver.NXDOMAIN):
        life.resolve(life.names["staging"])
    assert life.version("production")["environment"] == "production"


def test_the_last_teardown_leaves_no_resources(serving, life, aws):
    serving.step("teardown", "production")
    assert remaining_resources(aws("ec2"), life.app) == []
    assert "-1 " not in serving.succeed("github", "runners", "production")


def remaining_resources(ec2, app: str) -> list[str]:
    """Return the resources of both environments that still exist in EC2."""
    filters = [{"Name": "tag:app", "Values": [app]}]
    reservations = ec2.describe_instances(Filters=filters)["Reservations"]
    living = [i for r in reservations for i in r["Instances"] if i["State"]["Name"] != "terminated"]
    vpcs = ec2.describe_vpcs(Filters=filters)["Vpcs"]
    addresses = ec2.describe_addresses(Filters=filters)["Addresses"]
    return [str(resource) for resource in (*living, *vpcs, *addresses)]
