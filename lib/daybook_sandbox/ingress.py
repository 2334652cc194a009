"""Which of the sandbox's Elastic IPs lets whom in where: security groups, read as AWS reads them.

The caller's address decides. From this computer 127.0.0.1 stands for an operator's address,
every other 127.x.y.z for somebody on the internet, whom only 0.0.0.0/0 lets in.
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
    """One range of TCP ports of an Elastic IP; anyone: not for operators alone."""

    public_ip: str
    private_ip: str
    first_port: int
    last_port: int
    anyone: bool

    def lets_in(self, caller: str, public_ip: str, port: int) -> bool:
        """Tell whether a connection from a loopback address may pass."""
        return (
            self.public_ip == public_ip
            and self.first_port <= port <= self.last_port
            and (self.anyone or caller == OPERATOR_CALLS_FROM)
        )


def ingress_rules(cloud: Cloud) -> frozenset[IngressRule]:
    """Return what is open at this moment: running instances with an Elastic IP, by their groups.

    Rules for IPv6 and for other groups' members say nothing about calls from outside the VPC.
    """
    return frozenset(
        IngressRule(public_ip, instance.private_ip, *_ports(rule), anyone)
        for instance in cloud.instances()
        if instance.state == "running" and (public_ip := cloud.public_ip(instance))
        for rule, anyone in _rules(instance)
    )


def _rules(instance: Any) -> Iterator[tuple[Any, bool]]:
    """Give the rules that let TCP in from outside, and whether they do so for anyone."""
    for group in list(instance.nics[0].group_set):
        for rule in list(group.ingress_rules):
            if rule.ip_protocol in ("tcp", "-1") and rule.cidr_ipv4:
                source = ipaddress.ip_network(rule.cidr_ipv4, strict=False)
                if OPERATOR in source:
                    yield rule, source.prefixlen == 0


def _ports(rule: Any) -> tuple[int, int]:
    return ALL_PORTS if rule.ip_protocol == "-1" else (rule.from_port, rule.to_port)
