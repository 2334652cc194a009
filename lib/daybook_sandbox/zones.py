"""DNS lookups in Route53's hosted zones, answered like Route53's servers."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

CHAIN = 8
ALIAS_TTL_S = 60
CNAME = dns.rdatatype.CNAME
Nodes = dict[dns.name.Name, dict[dns.rdatatype.RdataType, Any]]


@dataclass(frozen=True)
class Reply:
    """An answer from the zones; `rest` is the name at which a chain of CNAMEs leaves them."""

    rcode: dns.rcode.Rcode
    answer: tuple[dns.rrset.RRset, ...] = ()
    authority: tuple[dns.rrset.RRset, ...] = ()
    rest: dns.name.Name | None = None


def lookup(
    route53: Any, name: dns.name.Name, kind: dns.rdatatype.RdataType, vpc_id: str = ""
) -> Reply:
    """Answer a question from the public zones and the private zones of a VPC.

    `rest` is the name itself if no zone contains it.
    """
    answer: list[dns.rrset.RRset] = []
    for _ in range(CHAIN):
        zone = _zone_of(route53, name, vpc_id)
        if zone is None:
            return Reply(dns.rcode.NOERROR, tuple(answer), rest=name)
        origin, nodes = zone
        records = _records_at(nodes, name)
        soa = (_render(route53, origin, dns.rdatatype.SOA, nodes[origin][dns.rdatatype.SOA]),)
        if records is None:
            return Reply(dns.rcode.NXDOMAIN, tuple(answer), soa)
        if kind in records:
            answer.append(_render(route53, name, kind, records[kind]))
            return Reply(dns.rcode.NOERROR, tuple(answer))
        if CNAME not in records:
            return Reply(dns.rcode.NOERROR, tuple(answer), soa)
        answer.append(_render(route53, name, CNAME, records[CNAME]))
        name = answer[-1][0].target
    return Reply(dns.rcode.SERVFAIL)


def _zone_of(route53: Any, name: dns.name.Name, vpc_id: str) -> tuple[dns.name.Name, Nodes] | None:
    """Return the closest enclosing zone of a name; private zones precede public ones."""
    matches = [
        (len(origin), zone.private_zone, zone)
        for zone in list(route53.zones.values())
        if name.is_subdomain(origin := dns.name.from_text(zone.name))
        and (not zone.private_zone or any(vpc["vpc_id"] == vpc_id for vpc in zone.vpcs))
    ]
    if not matches:
        return None
    zone = max(matches, key=lambda match: match[:2])[2]
    nodes: Nodes = defaultdict(dict)
    for record in list(zone.rrsets):
        nodes[_name(record.name)][dns.rdatatype.from_text(record.type)] = record
    return dns.name.from_text(zone.name), nodes


def _records_at(nodes: Nodes, name: dns.name.Name) -> dict[dns.rdatatype.RdataType, Any] | None:
    """Return a name's records, including wildcards (RFC 4592); None if it does not exist."""
    if name in nodes:
        return nodes[name]
    if _has_below(nodes, name):
        return {}
    encloser = name.parent()
    while not _has_below(nodes, encloser):
        encloser = encloser.parent()
    return nodes.get(dns.name.Name((b"*", *encloser.labels)))


def _has_below(nodes: Nodes, name: dns.name.Name) -> bool:
    return any(node.is_subdomain(name) for node in nodes)


def _render(
    route53: Any, name: dns.name.Name, kind: dns.rdatatype.RdataType, record: Any
) -> dns.rrset.RRset:
    """Convert moto's record for a DNS message; resolve an alias to its target."""
    if record.alias_target:
        target = lookup(route53, dns.name.from_text(record.alias_target["DNSName"]), kind).answer
        values = [rdata.to_text() for rdata in target[-1]] if target else []
        ttl = ALIAS_TTL_S
    else:
        values, ttl = [_text(value) for value in record.records], int(record.ttl)
    return dns.rrset.from_text_list(
        name, ttl, "IN", kind, values, origin=dns.name.root, relativize=False
    )


def _name(text: str) -> dns.name.Name:
    """Parse a name; Route53 escapes an asterisk in octal, DNS in decimal."""
    return dns.name.from_text(text.replace(r"\052", "*"))


def _text(value: str | dict[str, str]) -> str:
    """Return a record's value; moto wraps the value of a zone's SOA record."""
    return value["Value"] if isinstance(value, dict) else value
