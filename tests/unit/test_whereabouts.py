"""Where hosts are: what is beside Terraform's state counts, and no file of the checkout."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import boto3
import pytest
import yaml
from moto import mock_aws

from daybook import ansible, terraform
from daybook.errors import CommandFailed, DaybookError, PreflightFailed
from daybook.hosts import located, states
from daybook.steps import common, playbooks
from daybook.target import Target

ACCOUNT, REGION = "123456789012", "us-east-1"
STATE = "env:/staging/environment/terraform.tfstate"
KEYS = "env:/staging/environment/known_hosts"
HOST = {
    "id": "i-1",
    "name": "hello-staging-1",
    "public_ip": "203.0.113.9",
    "private_ip": "10.0.0.1",
}
OUTPUTS = {
    "environment": "staging",
    "app": "hello",
    "names": ["staging.daybook.test"],
    "app_port": 8000,
    "ecr_repository_url": "registry.example/hello",
    "metrics_namespace": "",
    "instances": [HOST],
}
KNOWN_HOSTS = "# i-1 hello-staging-1\n203.0.113.9 ssh-ed25519 AAAA\n"


class Place:
    """An environment of moto's, and what provision leaves in its bucket."""

    env = "staging"
    settings = SimpleNamespace(app="hello", account=ACCOUNT, ssh_key="~/.ssh/id")

    def __init__(self, root: Path) -> None:
        self.root = root
        self.target = Target("aws", ACCOUNT, REGION, {"PATH": "/bin"})

    def put(self, key: str, text: str) -> None:
        s3 = boto3.client("s3", region_name=REGION)
        s3.put_object(Bucket=f"hello-state-{ACCOUNT}", Key=key, Body=text.encode())

    def apply(self, **outputs: object) -> None:
        shown = {name: {"value": value} for name, value in (OUTPUTS | outputs).items()}
        secret = {"password": {"value": "hunter2", "sensitive": True}}
        self.put(STATE, json.dumps({"version": 4, "outputs": shown | secret}))


@pytest.fixture
def place(tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        s3 = boto3.client("s3", region_name=REGION)
        s3.create_bucket(Bucket=f"hello-state-{ACCOUNT}")
        it = Place(tmp_path)
        it.apply()
        it.put(KEYS, KNOWN_HOSTS)
        yield it


def evil(place: Place) -> None:
    """Lead every host of the local files somewhere else."""
    inventory, known_hosts = common.inventory_path(place), common.known_hosts_path(place)
    tree = yaml.safe_load(inventory.read_text())
    tree["staging"]["hosts"]["hello-staging-1"] |= {"ansible_host": "192.0.2.66", "x": "evil"}
    inventory.write_text(yaml.safe_dump(tree))
    known_hosts.write_text("192.0.2.66 ssh-ed25519 BBBB\n")


def evil_links(place: Place) -> None:
    own = place.root / "own"
    evil(place)
    for path in (common.inventory_path(place), common.known_hosts_path(place)):
        path.rename(own)
        path.symlink_to(own)


def evil_mode(place: Place) -> None:
    evil(place)
    common.inventory_path(place).chmod(0o555)


def test_any_checkout_knows_the_hosts(place):
    [host] = states.of(place)
    assert (host.name, host.address) == ("hello-staging-1", "203.0.113.9")
    assert host.known_hosts.read_text() == KNOWN_HOSTS
    check = located.are_known(place)("inventory")
    assert (check.is_ok, check.expected) == (True, "ansible/inventories/staging")
    written = common.inventory_path(place)
    assert "hunter2" not in written.read_text()
    assert sorted(each.name for each in written.parent.iterdir()) == [
        *("staging", "staging.known_hosts")
    ]
    assert not list((place.root / ".cache").iterdir())


@pytest.mark.attack("F4", "an edited inventory leads a reviewed step to other hosts")
@pytest.mark.parametrize("edit", [evil, evil_links, evil_mode], ids=lambda edit: edit.__name__)
def test_a_file_of_the_checkout_has_no_effect(place, monkeypatch, edit):
    expected = located.refresh(place).read_text()
    used = []
    monkeypatch.setattr(
        ansible,
        "play",
        lambda _playbook, *, inventory, **_options: used.append(inventory.read_text()),
    )
    place.run = SimpleNamespace(ssh_key=Path("/key"), start=None)
    edit(place)
    playbooks.played(place, "staging.yml", lambda _event: None)
    assert used == [expected]
    edit(place)
    [host] = states.of(place)
    assert (host.address, host.known_hosts.read_text()) == ("203.0.113.9", KNOWN_HOSTS)
    assert not common.inventory_path(place).stat().st_mode & 0o111
    assert not host.known_hosts.is_symlink()
    assert located.kept(place) == KNOWN_HOSTS, "what provision goes on from"


@pytest.mark.parametrize(
    ("state", "observed"),
    [
        ({"instances": []}, "staging is not provisioned."),
        ({"environment": "production"}, "are not its own"),
        ({"instances": [HOST | {"name": "other-staging-1"}]}, "are not its own"),
    ],
)
def test_hosts_must_be_those_of_the_environment(place, state, observed):
    place.apply(**state)
    with pytest.raises(PreflightFailed, match=observed):
        states.of(place)
    assert not common.inventory_path(place).exists()


def test_without_their_keys_the_hosts_are_not_believed(place):
    located.forget(place)
    with pytest.raises(PreflightFailed, match="SSH keys") as caught:
        located.refresh(place)
    assert caught.value.next == "daybook run provision -p env staging"


@pytest.mark.parametrize("text", ["x", "[]", '{"outputs": []}', '{"outputs": {"names": 1}}'])
def test_a_damaged_state_is_one_error(place, text):
    place.put(STATE, text)
    with pytest.raises(DaybookError, match=r"cannot be read|not provisioned"):
        located.refresh(place)
    with pytest.raises(CommandFailed, match="cannot be read"):
        terraform.outputs_in("{")


def test_outputs_of_a_state_say_which_are_secrets():
    shown = {"password": {"value": "hunter2", "sensitive": True}, "names": {"value": ["a"]}}
    found = terraform.outputs_in(json.dumps({"outputs": shown}))
    assert found == {"password": "hunter2", "names": ["a"]}
    assert found.secrets() == [("password", "hunter2")]
    assert terraform.outputs_in("") == {}
