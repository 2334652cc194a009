"""The text of the edge's rules."""

from __future__ import annotations

from daybook_sandbox.edge import ruleset
from daybook_sandbox.ingress import IngressRule

PUBLIC = IngressRule("127.90.1.0", "10.20.0.4", 80, 80, True)
OPERATOR = IngressRule("127.90.1.0", "10.20.0.4", 22, 22, False)


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines()]


def test_table_is_replaced_atomically():
    assert lines(ruleset((), 5))[:3] == [
        "add table ip daybook_sandbox",
        "delete table ip daybook_sandbox",
        "table ip daybook_sandbox {",
    ]


def test_allow_rules_precede_the_refusal():
    rules = lines(ruleset({PUBLIC, OPERATOR}, 5))
    gate = rules[rules.index("ct state established,related accept") + 1 :][:4]
    assert gate == [
        "ip saddr 127.0.0.1 ip daddr 127.90.1.0 tcp dport 22-22 accept",
        "ip daddr 127.90.1.0 tcp dport 80-80 accept",
        "meta l4proto tcp reject with tcp reset",
        "drop",
    ]


def test_other_traffic_is_accepted_first():
    rules = lines(ruleset((), 5))
    assert rules.index("ip daddr != 127.90.0.0/16 accept") == rules.index("chain gate {") + 2


def test_all_ports_are_redirected_to_the_forwarder():
    carry = "ip daddr 127.90.0.0/16 meta l4proto tcp dnat to 127.0.0.1:47106"
    assert carry in lines(ruleset((), 47106))
