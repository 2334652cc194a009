"""The inventory and known_hosts, as read by Ansible and ssh."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from daybook.errors import SettingsError
from daybook.hosts import inventory

OUTPUTS = {
    "environment": "staging",
    "app": "hello",
    "app_port": 8000,
    "names": ["staging.daybook.test"],
    "ecr_repository_url": "123456789012.dkr.ecr.us-east-1.amazonaws.com/hello",
    "metrics_namespace": "hello/staging",
    "instances": [
        {
            "id": "i-1",
            "name": "hello-staging-1",
            "public_ip": "127.90.0.1",
            "private_ip": "10.20.0.4",
        },
        {
            "id": "i-2",
            "name": "hello-staging-2",
            "public_ip": "127.90.0.2",
            "private_ip": "10.20.1.4",
        },
    ],
}
HOST, OTHER = OUTPUTS["instances"]


def public(private) -> str:
    return private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


ED25519 = public(ed25519.Ed25519PrivateKey.generate())
ECDSA = public(ec.generate_private_key(ec.SECP256R1()))
REPLACED = public(ed25519.Ed25519PrivateKey.generate())


def console(*lines: str) -> str:
    """Return a console like EC2's: with carriage returns, colors and other output."""
    talk = ["[  OK  ] Reached target \x1b[0;1;39mcloud-init\x1b[0m.", inventory.BEGIN]
    return "\r\r\n".join([*talk, *lines, inventory.END, "debian login: "])


def test_keys_are_parsed_from_the_console():
    seen = inventory.host_keys(console(f"{ECDSA} root@ip-10-20-0-4", f"\x1b[0m{ED25519}\x1b[K"))
    assert seen == [ECDSA, ED25519]


def test_the_last_block_is_used():
    assert inventory.host_keys(console(REPLACED) + console(ED25519)) == [ED25519]


@pytest.mark.parametrize("text", ["", "debian login:", console(), console("ssh-ed25519")])
def test_a_console_without_keys_has_no_keys(text: str):
    assert inventory.host_keys(text) == []


def test_an_incomplete_block_has_no_keys():
    assert inventory.host_keys(console(ED25519).partition(inventory.END)[0]) == []


@pytest.mark.parametrize(
    "damaged",
    [
        ED25519[:40],
        ED25519.replace("ssh-ed25519", "ssh-rsa"),
        ED25519[:30] + "[   12.345678] eth0: link up" + ED25519[30:],
    ],
    ids=["cut", "of another type", "interrupted by the kernel"],
)
def test_a_damaged_line_is_ignored(damaged: str):
    assert inventory.host_keys(console(damaged, ECDSA)) == [ECDSA]


def test_ssh_finds_the_keys_by_address(tmp_path: Path):
    file = tmp_path / "staging.known_hosts"
    file.write_text(inventory.known_hosts([HOST, OTHER], {"i-1": [ED25519, ECDSA], "i-2": [ECDSA]}))
    found = subprocess.run(
        ["ssh-keygen", "-F", HOST["public_ip"], "-f", file],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    keys = [line for line in found.splitlines() if not line.startswith("#")]
    assert keys == [f"127.90.0.1 {ED25519}", f"127.90.0.1 {ECDSA}"]


def test_keys_belong_to_an_instance_not_to_its_address():
    kept = inventory.known_hosts([HOST, OTHER], {"i-1": [ED25519], "i-2": [ECDSA]})
    assert inventory.kept_keys(kept, HOST | {"public_ip": "127.90.0.9"}) == [ED25519]
    assert inventory.kept_keys(kept, OTHER) == [ECDSA]
    assert inventory.kept_keys(kept, HOST | {"id": "i-10"}) == []
    assert inventory.kept_keys("", HOST) == []


@pytest.fixture(scope="module")
def read_by_ansible(tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("a folder with 100% of it")
    file = folder / "staging"
    file.write_text(inventory.render(OUTPUTS, folder / "staging.known_hosts"))
    command = [Path(sys.executable).with_name("ansible-inventory"), "-i", file, "--list"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder)
    return json.loads(listed.stdout)


def test_ansible_finds_the_hosts_in_the_environments_group(read_by_ansible: dict):
    assert read_by_ansible["staging"]["hosts"] == ["hello-staging-1", "hello-staging-2"]


def test_ansible_gets_the_variables_of_the_roles(read_by_ansible: dict):
    variables = read_by_ansible["_meta"]["hostvars"]["hello-staging-1"]
    assert {name: variables[name] for name in sorted(variables)} == {
        "ansible_host": "127.90.0.1",
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_common_args": variables["ansible_ssh_common_args"],
        "ansible_user": "admin",
        "app_name": "hello",
        "app_domains": ["staging.daybook.test"],
        "app_image_repository": OUTPUTS["ecr_repository_url"],
        "app_port": 8000,
        "private_ip": "10.20.0.4",
        "metrics_namespace": OUTPUTS["metrics_namespace"],
    }


def test_ssh_trusts_only_our_file_at_any_path(tmp_path: Path):
    known = tmp_path / "a folder with 100% of it" / "staging.known_hosts"
    options = inventory.ssh_options(known)
    shown = subprocess.run(
        ["ssh", "-G", *options, HOST["public_ip"]], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert "stricthostkeychecking true" in shown
    assert any(line.startswith("userknownhostsfile") and "100%" in line for line in shown)


@pytest.mark.attack("F12", "an inventory that is none")
@pytest.mark.parametrize(
    "raw",
    [b"", b"[", b"a: &a [*a]", b"[" * 1_000, b"staging: x", b"staging: {hosts: [1]}", b"\xff"]
    + [
        f"staging: {{hosts: {{{host}: {{ansible_host: {address}}}}}}}".encode()
        for host, address in (
            *(("a", each) for each in ("5", "[1]", "-oX", "host.example", "127.1", "~", "::1")),
            *((each, "127.0.0.1") for each in ('"a\\nb"', "-oX", '"a b"', '""', "A.b")),
        )
    ],
)
def test_an_invalid_inventory_is_one_error(tmp_path: Path, raw: bytes):
    path = tmp_path / "staging"
    path.write_bytes(raw)
    with pytest.raises(SettingsError, match="is invalid"):
        inventory.read(path)
