"""The start of the operator's Docker engine."""

from __future__ import annotations

import ipaddress
import os
import re
import subprocess

from daybook_sandbox.state import Ports
from daybook_sandbox.workstation import NETWORK, START, environment

PORTS = Ports(api=1, imds=2, dns=3, registry=4, registry_local=5, forward=6, acme=7)


def test_start_is_a_shell_script():
    assert subprocess.run(["sh", "-n", "-c", START]).returncode == 0


def test_start_gets_all_variables_it_reads():
    read = set(re.findall(r"\$\{?([A-Z_]+)", START))
    assert read == set(environment(PORTS))


def test_socket_belongs_to_the_users_group():
    assert environment(PORTS)["GROUP"] == str(os.getgid())


def test_network_is_in_the_benchmarking_range():
    cidr = ipaddress.ip_network(NETWORK.cidr)
    assert cidr.subnet_of(ipaddress.ip_network("198.18.0.0/15"))
    assert ipaddress.ip_address(NETWORK.gateway) in cidr
