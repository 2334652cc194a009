"""The team's keys, from the signers file to the hosts."""

from __future__ import annotations

import pytest

from daybook import signers
from daybook.hosts import ssh_keys
from daybook.record import signing

ANN = "ssh-ed25519 AAAAann"
BOB = "ecdsa-sha2-nistp256 AAAAbob="
CY = "ssh-rsa AAAAcy"


def test_valid_keys_have_their_owner(key):
    public = signing.public_key(key)
    valid = ('namespaces="daybook-record"', 'valid-before="20990101Z"', "")
    over = ('valid-before="20200101"', 'valid-after="20990101"')
    for options in (*valid, *over):
        allowed = signers.parse(f"ann@x {options} {public}\tlaptop\n", "signers")
        expected = (f"{public} ann@x",) if options in valid else ()
        assert ssh_keys.public_keys(allowed, "hello-staging") == expected, options


@pytest.mark.attack("F6", "the SSH key of staging's workflows logs in to production")
def test_a_workflows_key_is_only_for_its_own_environment(key):
    public = signing.public_key(key)
    for name in ("hello-staging-workflows", "hello-workflows", "hello-staging-1-workflows"):
        line = f'{name} namespaces="daybook-record" {public}\n'
        allowed = signers.parse(line, "signers")
        expected = (f"{public} {name}",) if name == "hello-staging-workflows" else ()
        assert ssh_keys.public_keys(allowed, "hello-staging") == expected
        assert ssh_keys.public_keys(allowed, "hello-production") == ()


def test_the_order_does_not_depend_on_the_operator():
    members = (f"{BOB} bob@x", f"{ANN} ann@x", f"{CY} cy@x")
    ordered = [f"{ANN} ann@x", f"{CY} cy@x", f"{BOB} bob@x"]
    assert ssh_keys.keys_for_hosts(f"{ANN} own comment\n", members) == ordered
    assert ssh_keys.keys_for_hosts(f"{CY} own comment\n", members) == ordered


def test_an_operator_outside_the_team_is_included():
    assert ssh_keys.keys_for_hosts(f"{CY} cy\n", (f"{ANN} ann@x",)) == [f"{ANN} ann@x", f"{CY} cy"]
    assert ssh_keys.keys_for_hosts(f"{CY} cy\n", ()) == [f"{CY} cy"]


def test_empty_keys_are_ignored():
    assert ssh_keys.keys_for_hosts("", ()) == []
