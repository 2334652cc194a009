"""The end of that life: one environment goes and leaves the other, the last leaves nothing."""

from __future__ import annotations

import dns.resolver
import httpx
import pytest

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(1800)]


def test_teardown_takes_one_environment_and_leaves_the_other(serving, life):
    gone = life.address("staging")
    assert "remains" in serving.step("teardown", "staging")
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://{gone}/", timeout=5)
    with pytest.raises(dns.resolver.NXDOMAIN):
        life.resolve(life.names["staging"])
    assert life.version("production")["environment"] == "production"


def test_the_last_teardown_leaves_nothing(serving, life, aws):
    serving.step("teardown", "production")
    assert leftovers(aws("ec2"), life.app) == []
    assert "-1 " not in serving.succeed("github", "runners", "production")


def leftovers(ec2, app: str) -> list[str]:
    """Return what EC2 still has of either environment."""
    ours = [{"Name": "tag:app", "Values": [app]}]
    found = ec2.describe_instances(Filters=ours)["Reservations"]
    living = [i for r in found for i in r["Instances"] if i["State"]["Name"] != "terminated"]
    vpcs = ec2.describe_vpcs(Filters=ours)["Vpcs"]
    addresses = ec2.describe_addresses(Filters=ours)["Addresses"]
    return [str(thing) for thing in (*living, *vpcs, *addresses)]
