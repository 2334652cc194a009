"""The team's keys, from the signers file to what the hosts let in."""

from __future__ import annotations

from daybook import team

ANN = "ssh-ed25519 AAAAann"
BOB = "ecdsa-sha2-nistp256 AAAAbob="
CY = "ssh-rsa AAAAcy"


def test_a_signers_file_gives_each_key_with_its_owner(tmp_path):
    signers = tmp_path / "signers"
    signers.write_text(
        "# who may sign\n"
        f'ann@x namespaces="daybook-record,daybook-approval" {ANN}\n'
        f"\nbob@x,rob@x {BOB}\tlaptop\n"
    )
    assert team.public_keys(signers) == (f"{ANN} ann@x", f"{BOB} bob@x,rob@x")


def test_an_authority_and_who_has_left_are_no_logins(tmp_path):
    signers = tmp_path / "signers"
    signers.write_text(
        f'all@x cert-authority {ANN}\nbob@x valid-before="20200101" {BOB}\n'
        f'cy@x valid-before="20990101Z" {CY}\n'
    )
    assert team.public_keys(signers) == (f"{CY} cy@x",)


def test_no_file_is_no_team(tmp_path):
    assert team.public_keys(tmp_path / "signers") == ()


def test_the_order_is_the_same_for_every_member_of_the_team():
    members = (f"{BOB} bob@x", f"{ANN} ann@x", f"{CY} cy@x")
    ordered = [f"{ANN} ann@x", f"{CY} cy@x", f"{BOB} bob@x"]
    assert team.keys_for_hosts(f"{ANN} own comment\n", members) == ordered
    assert team.keys_for_hosts(f"{CY} own comment\n", members) == ordered


def test_an_operator_outside_the_team_is_let_in_too():
    assert team.keys_for_hosts(f"{CY} cy\n", (f"{ANN} ann@x",)) == [f"{ANN} ann@x", f"{CY} cy"]
    assert team.keys_for_hosts(f"{CY} cy\n", ()) == [f"{CY} cy"]


def test_nobody_is_no_key():
    assert team.keys_for_hosts("", ()) == []
