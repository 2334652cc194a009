"""Elastic IPs from outside: for whom, on which ports, and for how long."""

from __future__ import annotations

import socket
import subprocess
import time
from contextlib import ExitStack

import pytest

pytestmark = pytest.mark.sandbox

OPERATOR = "203.0.113.7/32"
STRANGER = "127.3.3.3"
MUCH = 200_000_000


def serve(host, port: int) -> None:
    """Start a web server on the host that shows /etc/apt."""
    host.ssh(
        f"sudo systemd-run --quiet --unit web-{port} "
        f"python3 -m http.server {port} --directory /etc/apt"
    )


def test_ssh_on_port_22_beside_servers_of_this_computer(host):
    with ExitStack() as stack:
        for port in (22, 80):
            _occupy(stack, port)
        assert host.ssh("hostname -I").split()[0] == host.private_ip


def test_ssh_is_closed_to_strangers(host):
    refused = host.try_ssh("true", "-b", STRANGER)
    assert (refused.returncode, "refused" in refused.stderr) == (255, True)
    assert host.refuses(22, STRANGER)
    assert host.try_ssh("true").returncode == 0


def test_port_without_a_rule_is_refused(host):
    assert host.refuses(5432)
    assert host.refuses(5432, STRANGER)


def test_anyone_may_call_where_a_rule_says_so(host):
    serve(host, 80)
    retry = ["--retry", "10", "--retry-all-errors", "--retry-delay", "1"]
    for source in ("127.0.0.1", STRANGER):
        curl = ["curl", "-sf", "--interface", source, *retry, f"http://{host.public_ip}/"]
        assert b"sources.list" in subprocess.run(curl, capture_output=True, check=True).stdout


def test_rule_opens_and_closes_within_two_seconds(host, is_soon):
    serve(host, 2222)
    assert host.refuses(2222)
    host.allow(2222, OPERATOR)
    assert is_soon(lambda: not host.refuses(2222))
    with host.call(2222) as held:
        host.revoke(2222, OPERATOR)
        assert is_soon(lambda: host.refuses(2222))
        assert _is_cut(held)


def test_address_that_is_taken_away_leads_nowhere(host, is_soon):
    address = host.ec2.describe_addresses(PublicIps=[host.public_ip])["Addresses"][0]
    host.ec2.disassociate_address(AssociationId=address["AssociationId"])
    assert is_soon(lambda: host.refuses(22))
    host.ec2.associate_address(AllocationId=address["AllocationId"], InstanceId=host.id)
    assert is_soon(lambda: host.try_ssh("true").returncode == 0)


def test_carries_much_in_little_time(host):
    started = time.monotonic()
    assert len(host.ssh(f"head -c {MUCH} /dev/zero | tr '\\0' x")) == MUCH
    assert time.monotonic() - started < 30


def _occupy(stack: ExitStack, port: int) -> None:
    """Listen everywhere on a port, unless this computer does already."""
    try:
        stack.enter_context(socket.create_server(("0.0.0.0", port)))
    except OSError:
        socket.create_connection(("127.0.0.1", port)).close()


def _is_cut(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True
