"""`daybook sandbox up` and `down`: once, twice, beside another checkout, after a crash."""

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
"""How long the life's tests may take, which use the same sandbox in another process."""

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(ALONE_S + 600)]

LISTENS = "0A"


@pytest.fixture(scope="module", autouse=True)
def _alone_and_left_up_for_others(sandbox, sandbox_use):
    sandbox_use.wait_until_alone(ALONE_S)
    yield
    sandbox.up()


@pytest.fixture
def daemon(sandbox):
    """Return the process of the sandbox, which is up."""
    sandbox.up()
    return Home(sandbox.root).read().process


@pytest.fixture
def leftovers(docker_engine, sandbox):
    """Return what tells what the engine has of this sandbox."""
    mine = {"label": f"{LABEL}={sandbox.root}"}

    def look():
        found = docker_engine.containers.list(all=True, filters=mine)
        found += docker_engine.networks.list(filters=mine)
        found += docker_engine.volumes.list(filters=mine)
        return sorted(thing.name for thing in found)

    return look


def edge_rules(engine) -> str:
    """Return the host's nft tables, as a container of the tools image sees them."""
    command = ["nft", "list", "tables"]
    options = {"network_mode": "host", "cap_add": ["NET_ADMIN"], "remove": True}
    return engine.containers.run(image.tools(), command, **options).decode()


def test_up_again_changes_nothing(sandbox, daemon):
    assert "no changes" in sandbox.succeed("sandbox", "up")
    assert Home(sandbox.root).read().process == daemon


def test_status_shows_every_part(sandbox, daemon):
    shown = sandbox.succeed("sandbox", "status")
    assert f"process {daemon.pid}" in shown
    parts = ("AWS API", "metadata", "DNS", "registry", "Elastic IPs", "workstation")
    assert [part for part in parts if part not in shown] == []


def test_only_the_owner_reads_its_folder(sandbox, daemon):
    home = Home(sandbox.root)
    assert stat.S_IMODE(home.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(home.target_file.stat().st_mode) == 0o600


def test_env_prints_what_a_shell_evaluates(sandbox, daemon):
    lines = sandbox.succeed("sandbox", "env").splitlines()
    assert f"export AWS_ENDPOINT_URL={sandbox.env['AWS_ENDPOINT_URL']}" in lines
    assert all(line.startswith("export ") for line in lines)


def test_nothing_listens_beyond_this_computer(daemon):
    private = [ipaddress.ip_network(net) for net in ("127.0.0.0/8", "10.0.0.0/8", "198.18.0.0/15")]
    addresses = listening(daemon.pid)
    assert addresses
    assert [one for one in addresses if not any(one in net for net in private)] == []


def test_another_checkout_is_told_who_holds_the_sandbox(sandbox, daemon, tmp_path):
    other = type(sandbox)(tmp_path)
    done = other.run("sandbox", "up")
    assert done.returncode == 3
    assert f"the sandbox of {sandbox.root}" in done.stdout
    assert f"cd {sandbox.root} && daybook sandbox down" in done.stdout
    assert daemon.is_alive


def test_down_of_another_checkout_leaves_this_one_alone(sandbox, daemon, tmp_path, leftovers):
    before = leftovers()
    assert type(sandbox)(tmp_path).succeed("sandbox", "down")
    assert daemon.is_alive
    assert leftovers() == before


def test_a_crash_is_seen_and_the_next_up_cleans_up(sandbox, daemon, leftovers):
    before = leftovers()
    os.kill(daemon.pid, signal.SIGKILL)
    seen = sandbox.run("sandbox", "status")
    assert seen.returncode == 3
    assert str(daemon.pid) in seen.stdout
    assert leftovers() == before
    assert "was left by a sandbox that died; removed" in sandbox.succeed("sandbox", "up")
    assert Home(sandbox.root).read().process.pid != daemon.pid


def test_another_checkout_cleans_up_after_a_crash(sandbox, daemon, tmp_path, leftovers):
    os.kill(daemon.pid, signal.SIGKILL)
    other = type(sandbox)(tmp_path)
    try:
        assert "removed" in other.succeed("sandbox", "up")
        assert leftovers() == []
    finally:
        other.down()


@pytest.mark.parametrize("crashed", [False, True], ids=["in order", "after a crash"])
def test_down_leaves_nothing(sandbox, daemon, docker_engine, leftovers, crashed):
    if crashed:
        os.kill(daemon.pid, signal.SIGKILL)
    sandbox.down()
    assert leftovers() == []
    assert not daemon.is_alive
    assert not Home(sandbox.root).folder.exists()
    assert edge.TABLE not in edge_rules(docker_engine)
    assert image.any_tools(docker_engine) == image.tools()
    assert "no changes" in sandbox.succeed("sandbox", "down")


def listening(pid: int) -> set[ipaddress.IPv4Address]:
    """Return the addresses that a process's TCP sockets listen on; proc(5) has the format."""
    links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
    sockets = {link[8:-1] for link in links if link.startswith("socket:[")}
    rows = [row.split() for row in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    local = [row[1] for row in rows if row[3] == LISTENS and row[9] in sockets]
    return {ipaddress.ip_address(socket.inet_ntoa(bytes.fromhex(one[:8])[::-1])) for one in local}
