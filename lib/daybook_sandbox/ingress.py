"""Ingress rules of the Elastic IPs, derived from security groups as on AWS.

The source address decides. On this computer 127.0.0.1 represents an operator's address, and any
other 127.x.y.z an address on the internet, which passes only rules for 0.0.0.0/0.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from daybook_sandbox.api import Cloud

OPERATOR = ipaddress.ip_address("203.0.113.7")
OPERATOR_CALLS_FROM = "127.0.0.1"
ALL_PORTS = (0, 65535)


@dataclass(frozen=True, order=True)
class IngressRule:
    """An open range of an Elastic IP's TCP ports. is_public: open to all, not only to operators."""

    public_ip: str
    private_ip: str
    first_port: int
    last_port: int
    is_public: bool

    def allows(self, caller: str, public_ip: str, port: int) -> bool:
        """Return True if a connection from a loopback address is allowed."""
        return (
            self.public_ip == public_ip
            and self.first_port <= port <= self.last_port
            and (self.is_public or caller == OPERATOR_CALLS_FROM)
        )


def ingress_rules(cloud: Cloud) -> frozenset[IngressRule]:
    """Return the current rules of all running instances with an Elastic IP.

    Rules for IPv6 and for members of security groups do not apply to calls from outside the VPC.
    """
    return frozenset(
        IngressRule(public_ip, instance.private_ip, *_ports(rule), is_public)
        for instance in cloud.instances()
        if instance.state == "running" and (public_ip := cloud.public_ip(instance))
        for rule, is_public in _rules(instance)
    )


def _rules(instance: Any) -> Iterator[tuple[Any, bool]]:
    """Yield each rule that allows TCP from operators, and whether it is open to all."""
    for group in list(instance.nics[0].group_set):
        for rule in list(group.ingress_rules):
            if rule.ip_protocol in ("tcp", "-1") and rule.cidr_ipv4:
                source = ipaddress.ip_network(rule.cidr_ipv4, strict=False)
                if OPERATOR in source:
                    yield rule, source.prefixlen == 0


def _ports(rule: Any) -> tuple[int, int]:
    return ALL_PORTS if rule.ip_protocol == "-1" else (rule.from_port, rule.to_port)
