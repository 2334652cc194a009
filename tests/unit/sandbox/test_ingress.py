"""Ingress rules of Elastic IPs from security groups."""

from __future__ import annotations

import pytest

from daybook_sandbox.ingress import IngressRule, ingress_rules

SSH = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22}


def allow(world, cidr: str, rule=SSH) -> None:
    group = next(iter(world.instance.nics[0].group_set)).id
    permission = rule | {"IpRanges": [{"CidrIp": cidr}]}
    client = world.client("ec2")
    client.authorize_security_group_ingress(GroupId=group, IpPermissions=[permission])


def test_nothing_is_open_by_default(world):
    assert ingress_rules(world.cloud) == frozenset()


@pytest.mark.parametrize(
    ("cidr", "operator", "internet"),
    [
        ("203.0.113.7/32", True, False),
        ("203.0.113.0/24", True, False),
        ("0.0.0.0/0", True, True),
        ("198.51.100.0/24", False, False),
    ],
)
def test_the_source_address_decides(world, cidr, operator, internet):
    allow(world, cidr)
    public_ip = world.cloud.public_ip(world.instance)
    rules = ingress_rules(world.cloud)
    assert any(rule.allows("127.0.0.1", public_ip, 22) for rule in rules) is operator
    assert any(rule.allows("127.3.3.3", public_ip, 22) for rule in rules) is internet


def test_ports_and_protocols(world):
    public_ip, private_ip = world.cloud.public_ip(world.instance), "127.77.0.4"
    allow(world, "0.0.0.0/0", {"IpProtocol": "tcp", "FromPort": 8000, "ToPort": 8010})
    allow(world, "0.0.0.0/0", {"IpProtocol": "udp", "FromPort": 53, "ToPort": 53})
    assert ingress_rules(world.cloud) == {IngressRule(public_ip, private_ip, 8000, 8010, True)}
    allow(world, "203.0.113.7/32", {"IpProtocol": "-1"})
    assert IngressRule(public_ip, private_ip, 0, 65535, False) in ingress_rules(world.cloud)


def test_port_range_and_address_are_both_checked():
    rule = IngressRule("127.90.1.0", "10.20.0.4", 8000, 8010, True)
    targets = [
        ("127.90.1.0", 8000),
        ("127.90.1.0", 8010),
        ("127.90.1.0", 8011),
        ("127.90.1.1", 8000),
    ]
    assert [rule.allows("127.3.3.3", *target) for target in targets] == [True, True, False, False]


def test_closed_without_an_address_and_while_stopped(world):
    allow(world, "0.0.0.0/0")
    assert ingress_rules(world.cloud)
    world.instance._state.name = "stopped"
    assert ingress_rules(world.cloud) == frozenset()
    world.instance._state.name = "running"
    address = world.client("ec2").describe_addresses()["Addresses"][0]
    world.client("ec2").disassociate_address(AssociationId=address["AssociationId"])
    assert ingress_rules(world.cloud) == frozenset()


def test_revoked_rule_is_removed(world):
    allow(world, "0.0.0.0/0")
    group = next(iter(world.instance.nics[0].group_set)).id
    permission = SSH | {"IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    client = world.client("ec2")
    client.revoke_security_group_ingress(GroupId=group, IpPermissions=[permission])
    assert ingress_rules(world.cloud) == frozenset()
