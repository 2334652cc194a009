"""DNS on the machines and for Daybook's checks."""

from __future__ import annotations

import dns.message
import dns.query
import dns.rcode
import pytest

pytestmark = pytest.mark.sandbox

ZONE = "names.test"
REGISTRY = "123456789012.dkr.ecr.us-east-1.amazonaws.com"


@pytest.fixture(scope="module", autouse=True)
def zone(aws, host):
    """Create a zone with a record for the host."""
    route53 = aws("route53")
    zone_id = route53.create_hosted_zone(Name=ZONE, CallerReference=host.id)["HostedZone"]["Id"]
    values = [{"Value": host.public_ip}]
    record = {"Name": f"www.{ZONE}", "Type": "A", "TTL": 60, "ResourceRecords": values}
    change = {"Changes": [{"Action": "UPSERT", "ResourceRecordSet": record}]}
    route53.change_resource_record_sets(HostedZoneId=zone_id, ChangeBatch=change)


def ask(sandbox, name: str) -> dns.message.Message:
    """Query the sandbox's DNS server like Daybook."""
    address, _, port = sandbox.env["DAYBOOK_NAMESERVER"].partition(":")
    return dns.query.udp(dns.message.make_query(name, "A"), address, 5, int(port))


def test_record_resolves_on_this_computer(sandbox, host):
    assert ask(sandbox, f"www.{ZONE}").answer[0][0].address == host.public_ip
    assert ask(sandbox, f"nothing.{ZONE}").rcode() == dns.rcode.NXDOMAIN


def test_record_resolves_on_the_machine(host):
    assert host.ssh(f"getent ahostsv4 www.{ZONE}").split()[0] == host.public_ip
    assert host.try_ssh(f"getent ahostsv4 nothing.{ZONE}").returncode == 2


def test_registry_resolves_to_the_gateway(host):
    gateway = host.ssh("ip -4 route show default").split()[2]
    assert host.ssh(f"getent ahostsv4 {REGISTRY}").split()[0] == gateway


def test_internet_names_resolve_on_the_machine(host):
    host.ssh("sudo apt-get update -q -o APT::Update::Error-Mode=any")
