"""The sandbox's state on disk."""

import os
import stat
import subprocess
import sys

import pytest

from daybook_sandbox.state import Home, Ports, Process, State, write_private

PORTS = Ports(api=1, imds=2, dns=3, registry=4, registry_local=5, forward=6, acme=7)


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path)
    home.make()
    return home


def test_a_running_process_is_alive():
    assert Process.of(os.getpid()).is_alive


def test_an_exited_process_is_not_alive():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = Process.of(child.pid)
    assert process.is_alive
    child.communicate(b"\n")
    assert not process.is_alive


def test_a_reused_pid_is_not_alive():
    assert not Process(os.getpid(), Process.of(os.getpid()).started - 1).is_alive


def test_the_state_is_read_as_written(home):
    state = State(Process.of(os.getpid()))
    home.write(state)
    assert home.read() == state


def test_a_missing_state_reads_as_none(home):
    assert home.read() is None
    assert home.read_engine() is None
    assert home.read_target() == {}


def test_the_target_is_read_as_written(home):
    home.write_target({"AWS_REGION": "us-east-1", "ODD": "a=b"})
    assert home.read_target() == {"AWS_REGION": "us-east-1", "ODD": "a=b"}


def test_only_the_owner_can_read_the_folder_and_its_files(home):
    home.write_target({"AWS_SECRET_ACCESS_KEY": "x"})
    assert _mode(home.folder) == 0o700
    assert _mode(home.target_file) == 0o600
    assert _mode(home.ssh_key) == 0o600
    assert _mode(home.ssh_key.parent) == 0o700


def test_making_the_folder_again_keeps_the_key(home):
    before = home.ssh_key.read_text()
    home.make()
    assert home.ssh_key.read_text() == before


def test_a_private_file_replaces_an_existing_one(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    write_private(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def _mode(path):
    return stat.S_IMODE(path.stat().st_mode)
