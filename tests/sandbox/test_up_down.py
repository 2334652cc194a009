"""`daybook sandbox up` and `down`: repeated, with another checkout, and after a crash."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import stat
from pathlib import Path

import pytest

from daybook_sandbox import edge, image
from daybook_sandbox.state import LABEL, Home

ALONE_S = 1800
"""The maximum duration of the life tests, which use the same sandbox in another process."""

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(ALONE_S + 600)]

LISTENS = "0A"


@pytest.fixture(scope="module", autouse=True)
def _exclusive_and_up_afterwards(sandbox, sandbox_use):
    sandbox_use.wait_until_alone(ALONE_S)
    yield
    sandbox.up()


@pytest.fixture
def daemon(sandbox):
    """Return the process of the running sandbox."""
    sandbox.up()
    return Home(sandbox.root).read().process


@pytest.fixture
def remains(docker_engine, sandbox):
    """Return a function that lists the sandbox's objects in the engine."""
    filters = {"label": f"{LABEL}={sandbox.root}"}

    def list_names():
        objects = docker_engine.containers.list(all=True, filters=filters)
        objects += docker_engine.networks.list(filters=filters)
        objects += docker_engine.volumes.list(filters=filters)
        return sorted(item.name for item in objects)

    return list_names


def edge_rules(engine) -> str:
    """Return the host's nft tables, read in a container of the tools image."""
    command = ["nft", "list", "tables"]
    options = {"network_mode": "host", "cap_add": ["NET_ADMIN"], "remove": True}
    return engine.containers.run(image.tools(), command, **options).decode()


def test_up_again_changes_nothing(sandbox, daemon):
    assert "no changes" in sandbox.succeed("sandbox", "up")
    assert Home(sandbox.root).read().process == daemon


def test_status_shows_every_part(sandbox, daemon):
    output = sandbox.succeed("sandbox", "status")
    assert f"process {daemon.pid}" in output
    parts = ("AWS API", "metadata", "DNS", "registry", "Elastic IPs", "workstation")
    assert [part for part in parts if part not in output] == []


def test_only_the_owner_can_read_its_folder(sandbox, daemon):
    home = Home(sandbox.root)
    assert stat.S_IMODE(home.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(home.target_file.stat().st_mode) == 0o600


def test_env_prints_shell_exports(sandbox, daemon):
    lines = sandbox.succeed("sandbox", "env").splitlines()
    assert f"export AWS_ENDPOINT_URL={sandbox.env['AWS_ENDPOINT_URL']}" in lines
    assert all(line.startswith("export ") for line in lines)


def test_it_listens_only_on_private_addresses(daemon):
    private = [ipaddress.ip_network(net) for net in ("127.0.0.0/8", "10.0.0.0/8", "198.18.0.0/15")]
    addresses = listening(daemon.pid)
    assert addresses
    assert [ip for ip in addresses if not any(ip in net for net in private)] == []


def test_another_checkout_is_refused_with_the_running_sandbox(sandbox, daemon, tmp_path):
    other = type(sandbox)(tmp_path)
    done = other.run("sandbox", "up")
    assert done.returncode == 3
    assert f"the sandbox of {sandbox.root}" in done.stdout
    assert f"cd {sandbox.root} && daybook sandbox down" in done.stdout
    assert daemon.is_alive


def test_down_of_another_checkout_leaves_this_one_alone(sandbox, daemon, tmp_path, remains):
    before = remains()
    assert type(sandbox)(tmp_path).succeed("sandbox", "down")
    assert daemon.is_alive
    assert remains() == before


def test_a_crash_is_reported_and_the_next_up_cleans_up(sandbox, daemon, remains):
    before = remains()
    os.kill(daemon.pid, signal.SIGKILL)
    status = sandbox.run("sandbox", "status")
    assert status.returncode == 3
    assert str(daemon.pid) in status.stdout
    assert remains() == before
    assert "removed: a crashed sandbox left it" in sandbox.succeed("sandbox", "up")
    assert Home(sandbox.root).read().process.pid != daemon.pid


def test_another_checkout_cleans_up_after_a_crash(sandbox, daemon, tmp_path, remains):
    os.kill(daemon.pid, signal.SIGKILL)
    other = type(sandbox)(tmp_path)
    try:
        assert "removed" in other.succeed("sandbox", "up")
        assert remains() == []
    finally:
        other.down()


@pytest.mark.parametrize("crashed", [False, True], ids=["in order", "after a crash"])
def test_down_leaves_nothing(sandbox, daemon, docker_engine, remains, crashed):
    if crashed:
        os.kill(daemon.pid, signal.SIGKILL)
    sandbox.down()
    assert remains() == []
    assert not daemon.is_alive
    assert not Home(sandbox.root).folder.exists()
    assert edge.TABLE not in edge_rules(docker_engine)
    assert image.any_tools(docker_engine) == image.tools()
    assert "no changes" in sandbox.succeed("sandbox", "down")


def listening(pid: int) -> set[ipaddress.IPv4Address]:
    """Return the addresses of a process's listening TCP sockets, in the format of proc(5)."""
    links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
    sockets = {link[8:-1] for link in links if link.startswith("socket:[")}
    rows = [row.split() for row in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    local = [row[1] for row in rows if row[3] == LISTENS and row[9] in sockets]
    packed = [bytes.fromhex(address[:8])[::-1] for address in local]
    return {ipaddress.ip_address(socket.inet_ntoa(address)) for address in packed}
