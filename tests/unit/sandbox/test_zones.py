"""DNS lookups in Route53's zones."""

from __future__ import annotations

import dns.name
import dns.rcode
import dns.rdatatype
import pytest
from moto.route53.models import Route53Backend

from daybook_sandbox import zones

ADDRESS = "127.90.1.0"


@pytest.fixture
def route53():
    backend = Route53Backend("aws", "123456789012")
    zone = backend.create_hosted_zone("daybook.test", private_zone=False)
    add(zone, "daybook.test.", "A", ADDRESS)
    add(zone, "www.daybook.test.", "CNAME", "daybook.test")
    add(zone, "away.daybook.test.", "CNAME", "example.com")
    add(zone, "loop.daybook.test.", "CNAME", "loop.daybook.test")
    add(zone, "daybook.test.", "MX", "10 mail.daybook.test.")
    add(zone, "daybook.test.", "TXT", '"v=spf1 -all"', '"two" "parts"')
    add(zone, "six.daybook.test.", "AAAA", "::1")
    add(zone, r"\052.apps.daybook.test.", "A", "127.90.1.9")
    add(zone, "a.b.apps.daybook.test.", "A", "127.90.1.8")
    alias = {"DNSName": "www.daybook.test.", "HostedZoneId": "Z1"}
    zone.add_rrset({"Name": "alias.daybook.test.", "Type": "A", "AliasTarget": alias})
    return backend


def add(zone, name: str, kind: str, *values: str) -> None:
    record = {"Name": name, "Type": kind, "TTL": "60", "ResourceRecords": list(values)}
    zone.add_rrset(record)


def ask(route53, name: str, kind: str = "A", vpc_id: str = "") -> zones.Reply:
    return zones.lookup(route53, dns.name.from_text(name), dns.rdatatype.from_text(kind), vpc_id)


def values(reply: zones.Reply) -> list[str]:
    return [rdata.to_text() for rrset in reply.answer for rdata in rrset]


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("daybook.test", "A", [ADDRESS]),
        ("DAYBOOK.test", "A", [ADDRESS]),
        ("www.daybook.test", "A", ["daybook.test.", ADDRESS]),
        ("www.daybook.test", "CNAME", ["daybook.test."]),
        ("daybook.test", "MX", ["10 mail.daybook.test."]),
        ("daybook.test", "TXT", ['"v=spf1 -all"', '"two" "parts"']),
        ("six.daybook.test", "AAAA", ["::1"]),
        ("alias.daybook.test", "A", [ADDRESS]),
        ("x.apps.daybook.test", "A", ["127.90.1.9"]),
        ("x.y.apps.daybook.test", "A", ["127.90.1.9"]),
    ],
)
def test_records(route53, name, kind, expected):
    reply = ask(route53, name, kind)
    assert (reply.rcode, values(reply)) == (dns.rcode.NOERROR, expected)


def test_zone_has_its_own_records(route53):
    assert values(ask(route53, "daybook.test", "SOA"))[0].startswith("ns-2048.awsdns-64.com.")
    assert len(values(ask(route53, "daybook.test", "NS"))) == 4


@pytest.mark.parametrize("name", ["nothing.daybook.test", "x.b.apps.daybook.test"])
def test_missing_name(route53, name):
    reply = ask(route53, name)
    assert reply.rcode == dns.rcode.NXDOMAIN
    assert reply.authority[0].rdtype == dns.rdatatype.SOA


@pytest.mark.parametrize(
    ("name", "kind"), [("six.daybook.test", "A"), ("b.apps.daybook.test", "A")]
)
def test_name_without_a_record_of_the_type(route53, name, kind):
    reply = ask(route53, name, kind)
    assert (reply.rcode, reply.answer) == (dns.rcode.NOERROR, ())
    assert reply.authority[0].rdtype == dns.rdatatype.SOA


def test_names_outside_the_zones_are_left_to_other_servers(route53):
    assert ask(route53, "example.com").rest == dns.name.from_text("example.com")
    chained = ask(route53, "away.daybook.test")
    assert values(chained) == ["example.com."]
    assert chained.rest == dns.name.from_text("example.com")


def test_endless_chain(route53):
    assert ask(route53, "loop.daybook.test").rcode == dns.rcode.SERVFAIL


def test_private_zone_is_visible_only_in_its_vpc(route53):
    zone = route53.create_hosted_zone(
        "daybook.test", private_zone=True, vpcid="vpc-1", vpcregion="us-east-1"
    )
    add(zone, "db.daybook.test.", "A", "10.20.0.9")
    assert values(ask(route53, "db.daybook.test", vpc_id="vpc-1")) == ["10.20.0.9"]
    assert ask(route53, "db.daybook.test", vpc_id="vpc-2").rcode == dns.rcode.NXDOMAIN
