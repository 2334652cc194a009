"""Connections to Elastic IPs: allowed sources, ports and changes of rules."""

from __future__ import annotations

import socket
import subprocess
import time
from contextlib import ExitStack

import pytest

pytestmark = pytest.mark.sandbox

OPERATOR = "203.0.113.7/32"
INTERNET = "127.3.3.3"
BYTES = 200_000_000


def serve(host, port: int) -> None:
    """Start a web server for /etc/apt on the host."""
    host.ssh(
        f"sudo systemd-run --quiet --unit web-{port} "
        f"python3 -m http.server {port} --directory /etc/apt"
    )


def test_ssh_works_while_this_computer_uses_the_same_ports(host):
    with ExitStack() as stack:
        for port in (22, 80):
            _occupy(stack, port)
        assert host.ssh("hostname -I").split()[0] == host.private_ip


def test_ssh_is_closed_to_the_internet(host):
    refused = host.try_ssh("true", "-b", INTERNET)
    assert (refused.returncode, "refused" in refused.stderr) == (255, True)
    assert host.refuses(22, INTERNET)
    assert host.try_ssh("true").returncode == 0


def test_port_without_a_rule_is_refused(host):
    assert host.refuses(5432)
    assert host.refuses(5432, INTERNET)


def test_a_public_rule_admits_all_sources(host):
    serve(host, 80)
    retry = ["--retry", "10", "--retry-all-errors", "--retry-delay", "1"]
    for source in ("127.0.0.1", INTERNET):
        curl = ["curl", "-sf", "--interface", source, *retry, f"http://{host.public_ip}/"]
        assert b"sources.list" in subprocess.run(curl, capture_output=True, check=True).stdout


def test_rule_changes_apply_within_two_seconds(host, is_soon):
    serve(host, 2222)
    assert host.refuses(2222)
    host.allow(2222, OPERATOR)
    assert is_soon(lambda: not host.refuses(2222))
    with host.call(2222) as held:
        host.revoke(2222, OPERATOR)
        assert is_soon(lambda: host.refuses(2222))
        assert _is_cut(held)


def test_a_disassociated_address_is_closed(host, is_soon):
    address = host.ec2.describe_addresses(PublicIps=[host.public_ip])["Addresses"][0]
    host.ec2.disassociate_address(AssociationId=address["AssociationId"])
    assert is_soon(lambda: host.refuses(22))
    host.ec2.associate_address(AllocationId=address["AllocationId"], InstanceId=host.id)
    assert is_soon(lambda: host.try_ssh("true").returncode == 0)


def test_throughput(host):
    started = time.monotonic()
    assert len(host.ssh(f"head -c {BYTES} /dev/zero | tr '\\0' x")) == BYTES
    assert time.monotonic() - started < 30


def _occupy(stack: ExitStack, port: int) -> None:
    """Listen on a port of all addresses, unless this computer already does."""
    try:
        stack.enter_context(socket.create_server(("0.0.0.0", port)))
    except OSError:
        socket.create_connection(("127.0.0.1", port)).close()


def _is_cut(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True
