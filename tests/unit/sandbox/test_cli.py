"""`daybook sandbox`: output and errors."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from daybook.errors import PreflightFailed
from daybook_sandbox import cli, lifecycle
from daybook_sandbox.lifecycle import MachineStatus, SandboxStatus
from daybook_sandbox.state import Home


def machine(**values):
    defaults = {
        "id": "i-1",
        "name": "hello-staging",
        "environment": "staging",
        "state": "running",
        "reason": "",
        "private_ip": "10.20.0.4",
        "public_ip": "127.90.1.1",
        "container": "daybook-sandbox-i-1",
    }
    return MachineStatus(**(defaults | values))


OTHER = machine(
    id="i-2",
    name="hello-production",
    environment="production",
    private_ip="10.30.0.4",
    public_ip="127.90.1.2",
)


@pytest.mark.parametrize("word", ["i-1", "hello-staging", "staging", "10.20.0.4", "127.90.1.1"])
def test_a_machine_is_chosen_by_any_of_its_names(word):
    assert cli.choose([machine(), OTHER], word).id == "i-1"


@pytest.mark.parametrize("word", ["", "unknown"])
def test_no_machine_is_chosen_by_a_wrong_name(word):
    with pytest.raises(PreflightFailed, match="No running machines") as caught:
        cli.choose([machine(public_ip=""), OTHER], word)
    assert "hello-staging" in caught.value.observed


def test_an_ambiguous_name_is_refused():
    with pytest.raises(PreflightFailed, match="2 running machines"):
        cli.choose([machine(), machine(id="i-9")], "staging")


def test_a_stopped_machine_is_not_chosen():
    with pytest.raises(PreflightFailed):
        cli.choose([machine(state="stopped")], "staging")


def test_ssh_trusts_only_the_consoles_keys():
    command = cli.ssh_command(Home(Path("/root")), machine(), ["uptime", "-p"])
    assert command == [
        "ssh",
        "-i",
        "/root/.sandbox/ssh/id_ed25519",
        "-o",
        "IdentitiesOnly=yes",
        "-o",
        "HostKeyAlias=i-1",
        "-o",
        "StrictHostKeyChecking=yes",
        "-o",
        "UserKnownHostsFile=/root/.sandbox/ssh/known_hosts",
        "-o",
        "GlobalKnownHostsFile=/dev/null",
        "-o",
        "LogLevel=ERROR",
        "admin@10.20.0.4",
        "uptime",
        "-p",
    ]


def test_status_without_a_sandbox_shows_how_to_start_it(tmp_path, monkeypatch):
    monkeypatch.setenv("DAYBOOK_ROOT", str(tmp_path))
    error = CliRunner().invoke(cli.sandbox, ["status"]).exception
    assert isinstance(error, PreflightFailed)
    assert error.next == "daybook sandbox up"


def test_status_lists_services_and_machines(tmp_path, monkeypatch):
    monkeypatch.setenv("DAYBOOK_ROOT", str(tmp_path))
    status = SandboxStatus(tmp_path, 42, {"DNS": "port 5300"}, (machine(memory_mib=61), OTHER))
    monkeypatch.setattr(lifecycle, "status", lambda root, memory: status)
    result = CliRunner().invoke(cli.sandbox, ["status"])
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert "process 42" in lines[1]
    row = next(line.split() for line in lines if "hello-staging" in line)
    assert row == ["hello-staging", "i-1", "staging", "running", "10.20.0.4", "127.90.1.1", "61"]
