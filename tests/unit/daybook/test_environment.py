"""An environment's hosts come from the stored state and keys, not from files of the checkout."""

from __future__ import annotations

import json

import boto3
import pytest
import yaml
from moto import mock_aws

from daybook import ansible, playbooks, terraform
from daybook.environment import Environment
from daybook.errors import CommandFailed, DaybookError, PreflightFailed
from daybook.settings import Settings
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


SETTINGS = Settings(
    app="hello",
    account=ACCOUNT,
    dns_zone="daybook.test",
    domains=("staging.daybook.test",),
    vpc_cidr="10.20.0.0/16",
    ssh_allowed_cidrs=(),
)


def put(key: str, text: str) -> None:
    """Put an object into the state bucket, as provision does."""
    s3 = boto3.client("s3", region_name=REGION)
    s3.put_object(Bucket=f"hello-state-{ACCOUNT}", Key=key, Body=text.encode())


def apply(**outputs: object) -> None:
    """Put a state with these outputs into the bucket, as Terraform does."""
    shown = {name: {"value": value} for name, value in (OUTPUTS | outputs).items()}
    secret = {"password": {"value": "hunter2", "sensitive": True}}
    put(STATE, json.dumps({"version": 4, "outputs": shown | secret}))


@pytest.fixture
def environment(tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        s3 = boto3.client("s3", region_name=REGION)
        s3.create_bucket(Bucket=f"hello-state-{ACCOUNT}")
        apply()
        put(KEYS, KNOWN_HOSTS)
        target = Target("aws", ACCOUNT, REGION, {"PATH": "/bin"})
        yield Environment("staging", tmp_path, SETTINGS, target)


def evil(environment: Environment) -> None:
    """Redirect every host in the local files to another address."""
    inventory = environment.inventory.path
    tree = yaml.safe_load(inventory.read_text())
    tree["staging"]["hosts"]["hello-staging-1"] |= {"ansible_host": "192.0.2.66", "x": "evil"}
    inventory.write_text(yaml.safe_dump(tree))
    environment.inventory.known_hosts.write_text("192.0.2.66 ssh-ed25519 BBBB\n")


def evil_links(environment: Environment) -> None:
    own = environment.root / "own"
    evil(environment)
    for path in (environment.inventory.path, environment.inventory.known_hosts):
        path.rename(own)
        path.symlink_to(own)


def evil_mode(environment: Environment) -> None:
    evil(environment)
    environment.inventory.path.chmod(0o555)


def test_the_hosts_are_available_in_any_checkout(environment):
    [host] = environment.hosts
    assert (host.name, host.address) == ("hello-staging-1", "203.0.113.9")
    assert host.known_hosts.read_text() == KNOWN_HOSTS
    check = playbooks.inventory_is_known(environment)("inventory")
    assert (check.is_ok, check.expected) == (True, "ansible/inventories/staging")
    written = environment.inventory.path
    assert "hunter2" not in written.read_text()
    assert sorted(each.name for each in written.parent.iterdir()) == [
        *("staging", "staging.known_hosts")
    ]


@pytest.mark.attack("F4", "an edited inventory leads a reviewed step to other hosts")
@pytest.mark.parametrize("edit", [evil, evil_links, evil_mode], ids=lambda edit: edit.__name__)
def test_files_in_the_checkout_have_no_effect(environment, monkeypatch, edit):
    [host] = environment.hosts
    expected = environment.inventory.path.read_text()
    used = []
    monkeypatch.setattr(
        ansible,
        "play",
        lambda _playbook, *, inventory, **_options: used.append(inventory.read_text()),
    )
    edit(environment)
    playbooks.run(environment, "staging.yml", lambda _event: None)
    assert used == [expected]
    edit(environment)
    [host] = environment.hosts
    assert (host.address, host.known_hosts.read_text()) == ("203.0.113.9", KNOWN_HOSTS)
    assert not environment.inventory.path.stat().st_mode & 0o111
    assert not host.known_hosts.is_symlink()
    assert environment.host_keys.read() == KNOWN_HOSTS, "what provision goes on from"


@pytest.mark.parametrize(
    ("state", "observed"),
    [
        ({"instances": []}, "staging is not provisioned."),
        ({"environment": "production"}, "belong to another environment"),
        ({"instances": [HOST | {"name": "other-staging-1"}]}, "belong to another environment"),
    ],
)
def test_hosts_of_another_environment_are_rejected(environment, state, observed):
    apply(**state)
    with pytest.raises(PreflightFailed, match=observed):
        environment.write_inventory()
    assert not environment.inventory.path.exists()


def test_hosts_without_known_keys_are_rejected(environment):
    environment.host_keys.delete()
    with pytest.raises(PreflightFailed, match="SSH host keys of staging are unknown") as caught:
        environment.write_inventory()
    assert caught.value.next == "daybook run provision -p env staging"


@pytest.mark.parametrize("text", ["x", "[]", '{"outputs": []}', '{"outputs": {"names": 1}}'])
def test_an_invalid_state_is_one_error(environment, text):
    put(STATE, text)
    with pytest.raises(DaybookError, match=r"cannot be read|not provisioned"):
        environment.write_inventory()
    with pytest.raises(CommandFailed, match="cannot be read"):
        terraform.outputs_in("{")


def test_outputs_of_a_state_mark_secrets():
    shown = {"password": {"value": "hunter2", "sensitive": True}, "names": {"value": ["a"]}}
    found = terraform.outputs_in(json.dumps({"outputs": shown}))
    assert found == {"password": "hunter2", "names": ["a"]}
    assert found.secrets() == [("password", "hunter2")]
    assert terraform.outputs_in("") == {}
