"""The team's keys, from the signers file to what the hosts let in."""

from __future__ import annotations

import pytest

from daybook import signers
from daybook.hosts import ssh_keys
from daybook.record import signing

ANN = "ssh-ed25519 AAAAann"
BOB = "ecdsa-sha2-nistp256 AAAAbob="
CY = "ssh-rsa AAAAcy"


def test_every_key_that_is_valid_now_has_its_owner(key):
    public = signing.public_key(key)
    valid = ('namespaces="daybook-record"', 'valid-before="20990101Z"', "")
    over = ('valid-before="20200101"', 'valid-after="20990101"')
    for options in (*valid, *over):
        allowed = signers.parse(f"ann@x {options} {public}\tlaptop\n", "signers")
        expected = (f"{public} ann@x",) if options in valid else ()
        assert ssh_keys.public_keys(allowed, "hello-staging") == expected, options


@pytest.mark.attack("F6", "the SSH key of staging's workflows logs in to production")
def test_a_key_of_workflows_is_for_the_hosts_of_its_own_environment(key):
    public = signing.public_key(key)
    for name in ("hello-staging-workflows", "hello-workflows", "hello-staging-1-workflows"):
        line = f'{name} namespaces="daybook-record" {public}\n'
        allowed = signers.parse(line, "signers")
        expected = (f"{public} {name}",) if name == "hello-staging-workflows" else ()
        assert ssh_keys.public_keys(allowed, "hello-staging") == expected
        assert ssh_keys.public_keys(allowed, "hello-production") == ()


def test_the_order_is_the_same_for_every_member_of_the_team():
    members = (f"{BOB} bob@x", f"{ANN} ann@x", f"{CY} cy@x")
    ordered = [f"{ANN} ann@x", f"{CY} cy@x", f"{BOB} bob@x"]
    assert ssh_keys.keys_for_hosts(f"{ANN} own comment\n", members) == ordered
    assert ssh_keys.keys_for_hosts(f"{CY} own comment\n", members) == ordered


def test_an_operator_outside_the_team_is_let_in_too():
    assert ssh_keys.keys_for_hosts(f"{CY} cy\n", (f"{ANN} ann@x",)) == [f"{ANN} ann@x", f"{CY} cy"]
    assert ssh_keys.keys_for_hosts(f"{CY} cy\n", ()) == [f"{CY} cy"]


def test_nobody_is_no_key():
    assert ssh_keys.keys_for_hosts("", ()) == []
