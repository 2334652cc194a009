"""The DNS server: UDP and TCP, allowed clients, and forwarded queries."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rrset
import pytest
from moto.route53.models import Route53Backend

from daybook_sandbox import dns as service
from daybook_sandbox.networks import Network
from daybook_sandbox.state import Ports

REGISTRY = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
NETWORK = Network("net", "vpc-1", "127.78.0.0/24", "127.78.0.1")
SOON_S = 2.0


@pytest.fixture
def server(port):
    route53 = Route53Backend("aws", "123456789012")
    zone = route53.create_hosted_zone("daybook.test", private_zone=False)
    many = [f'"{number:03} {"x" * 90}"' for number in range(20)]
    for name, kind, values in (
        ("staging.daybook.test.", "A", ["127.90.1.0"]),
        ("many.daybook.test.", "TXT", many),
        ("broken.daybook.test.", "A", ["not an address"]),
        ("away.daybook.test.", "CNAME", ["example.com."]),
    ):
        zone.add_rrset({"Name": name, "Type": kind, "TTL": 60, "ResourceRecords": values})
    cloud = SimpleNamespace(account="123456789012", region="us-east-1", route53=route53)
    dns_server = service.Dns(cloud, Ports(0, 0, port, 0, 0, 0, 0))
    dns_server.start()
    dns_server.gateway_added(NETWORK)
    yield dns_server
    dns_server.close()


def udp(port: int, name: str, kind: str = "A", address: str = "127.0.0.1", **options):
    query = dns.message.make_query(name, kind, **options)
    return dns.query.udp(query, address, SOON_S, port)


def addresses(response: dns.message.Message) -> list[str]:
    return [rdata.to_text() for rrset in response.answer for rdata in rrset]


def test_answers_over_udp_and_tcp(server, port):
    response = udp(port, "staging.daybook.test")
    assert addresses(response) == ["127.90.1.0"]
    assert response.flags & dns.flags.AA
    assert response.flags & dns.flags.RA
    query = dns.message.make_query("staging.daybook.test", "A")
    assert addresses(dns.query.tcp(query, "127.0.0.1", SOON_S, port)) == ["127.90.1.0"]
    assert udp(port, "nothing.daybook.test").rcode() == dns.rcode.NXDOMAIN


def test_registry_is_the_asking_networks_gateway(server, port):
    assert addresses(udp(port, REGISTRY)) == ["127.0.0.1"]
    source = {"source": "127.78.0.4"}
    query = dns.message.make_query(REGISTRY, "A")
    assert addresses(dns.query.udp(query, NETWORK.gateway, SOON_S, port, **source)) == [
        "127.78.0.1"
    ]
    assert udp(port, REGISTRY, "AAAA").rcode() == dns.rcode.NOERROR


def test_other_networks_get_no_answer(server, port):
    query = dns.message.make_query("staging.daybook.test", "A")
    with pytest.raises(dns.exception.Timeout):
        dns.query.udp(query, NETWORK.gateway, 0.3, port, source="127.79.0.4")
    with pytest.raises((EOFError, ConnectionError)):
        dns.query.tcp(query, NETWORK.gateway, SOON_S, port, source="127.79.0.4")
    server.gateway_removed(NETWORK)
    with pytest.raises((dns.exception.Timeout, ConnectionError)):
        dns.query.udp(query, NETWORK.gateway, 0.3, port, source="127.78.0.4")


def test_long_answers_are_truncated_only_over_udp(server, port):
    assert udp(port, "many.daybook.test", "TXT").flags & dns.flags.TC
    query = dns.message.make_query("many.daybook.test", "TXT")
    assert len(addresses(dns.query.tcp(query, "127.0.0.1", SOON_S, port))) == 20
    assert len(addresses(udp(port, "many.daybook.test", "TXT", use_edns=0, payload=4096))) == 20


def test_survives_invalid_records_and_queries(server, port):
    assert udp(port, "broken.daybook.test").rcode() == dns.rcode.SERVFAIL
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.sendto(b"\xff" * 20, ("127.0.0.1", port))
    assert addresses(udp(port, "staging.daybook.test")) == ["127.90.1.0"]


def test_other_names_are_forwarded_to_the_hosts_resolvers(server, port, monkeypatch):
    async def forward(query):
        response = dns.message.make_response(query)
        name = query.question[0].name
        response.answer.append(dns.rrset.from_text(name, 60, "IN", "A", "192.0.2.1"))
        return response

    monkeypatch.setattr(service, "_forward", forward)
    assert addresses(udp(port, "example.com")) == ["192.0.2.1"]
    assert addresses(udp(port, "away.daybook.test")) == ["example.com.", "192.0.2.1"]


def test_a_missing_resolver_is_a_server_failure(server, port, monkeypatch):
    resolver = SimpleNamespace(nameservers=[])
    monkeypatch.setattr("dns.resolver.Resolver", lambda: resolver)
    assert udp(port, "example.com").rcode() == dns.rcode.SERVFAIL
