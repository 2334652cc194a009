"""The configured host: SSH access, metrics, and behavior after a kill or a reboot."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import boto3
import pytest

from .plays import play, start

pytestmark = [
    pytest.mark.sandbox,
    pytest.mark.timeout(1800),
    pytest.mark.usefixtures("serving"),
]

DRIVER = "sudo docker info --format '{{ .LoggingDriver }}'"


def lets_in(life, key: Path) -> bool:
    """Return True if this key can log in to staging's host."""
    known = life.root / "ansible/inventories/staging.known_hosts"
    options = ["BatchMode=yes", "IdentitiesOnly=yes", f"UserKnownHostsFile={known}"]
    words = [word for option in options for word in ("-o", option)]
    command = ["ssh", "-F", "none", "-S", "none", "-i", key, *words]
    address = f"admin@{life.address('staging')}"
    done = subprocess.run([*command, address, "true"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 or "Permission denied (publickey)" in done.stderr, done.stderr
    return done.returncode == 0


@pytest.fixture
def colleague(tmp_path: Path) -> Path:
    """Return a colleague's private key."""
    key = tmp_path / "colleague"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    return key


def test_keys_follow_the_list_of_signers(life, colleague):
    signers = life.root / "environments/signers"
    before = signers.read_text()
    assert not lets_in(life, colleague)
    public = colleague.with_name("colleague.pub").read_text()
    signers.write_text(f'bob@example.com namespaces="daybook-record" {public}{before}')
    try:
        play(life, "ssh")
        assert lets_in(life, colleague)
        planned = life.project.run("run", "provision", "-p", "env", "staging").stdout
    finally:
        signers.write_text(before)
    assert re.search(r"replace +aws_key_pair.this", planned), planned
    assert "aws_instance" not in planned
    play(life, "ssh")
    assert not lets_in(life, colleague)


def test_a_list_without_a_valid_key_is_refused(life):
    with start(life, "ssh", ssh_authorized_keys=["nobody"]) as process:
        said, _ = process.communicate(timeout=120)
    assert process.returncode == 2, said
    assert "ssh-" in life.out("staging", "cat ~/.ssh/authorized_keys")


def test_login_needs_a_key_and_excludes_root(life):
    said = life.out("staging", "sudo sshd -T").splitlines()
    assert {"passwordauthentication no", "permitrootlogin no", "allowusers admin"} <= set(said)
    ask = "ssh -v -o BatchMode=yes -o StrictHostKeyChecking=accept-new {}@127.0.0.1 2>&1"
    for user in ("root", "admin"):
        refused = life.on_host("staging", ask.format(user)).stdout
        assert re.search("Authentications that can continue: publickey$", refused, re.MULTILINE)


def test_systemd_accepts_all_units(life):
    units = "/etc/systemd/system/daybook-*"
    assert life.out("staging", f"sudo systemd-analyze verify $(find {units} -type f) 2>&1") == ""
    assert life.out("staging", "systemctl is-system-running") == "running"


def test_tools_are_installed_and_roots_aws_cli_uses_the_instance_role(life):
    for tool in ("git", "python3", "pip", "node", "npm", "aws"):
        life.out("staging", f"{tool} --version")
    life.out("staging", "docker compose version")
    caller = json.loads(life.out("staging", "sudo aws sts get-caller-identity"))
    assert f":assumed-role/{life.app}-staging-host/i-" in caller["Arn"]


def test_security_updates_are_automatic_and_do_not_reboot(life):
    said = life.out("staging", "apt-config dump")
    origins = re.findall(r'^Unattended-Upgrade::Origins-Pattern:: "(.*)";', said, re.MULTILINE)
    assert origins == ["origin=Debian,codename=${distro_codename}-security,label=Debian-Security"]
    assert 'Unattended-Upgrade::Automatic-Reboot "false";' in said
    assert 'APT::Periodic::Unattended-Upgrade "1";' in said
    life.out("staging", "sudo unattended-upgrade --dry-run")


def test_disk_usage_is_reported_to_its_alarm(life):
    env = life.sandbox.env
    keys = (env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"])
    session = boto3.Session(*keys, region_name=env["AWS_REGION"])
    cloudwatch = session.client("cloudwatch", endpoint_url=env["AWS_ENDPOINT_URL"])
    life.out("staging", "systemctl is-active daybook-metrics.timer")
    life.out("staging", "sudo systemctl start daybook-metrics.service")
    told = cloudwatch.list_metrics(Namespace=f"{life.app}/staging")["Metrics"]
    alarms = cloudwatch.describe_alarms(AlarmNamePrefix=f"{life.app}-staging")["MetricAlarms"]
    [alarm] = [each for each in alarms if each["MetricName"] == "disk_used_percent"]
    parts = ("Namespace", "MetricName", "Dimensions")
    assert {name: alarm[name] for name in parts} in [{n: m[n] for n in parts} for m in told]


def test_a_restart_lost_by_a_kill_is_made_up_by_the_next_run(life):
    other = {"docker_daemon": {"live-restore": True, "log-driver": "json-file"}}
    assert life.out("staging", DRIVER) == "local"
    with start(life, "docker", "restart_stale", **other) as process:
        life.project.wait_for(process, r"TASK \[docker : Configure the credential helper")
        os.killpg(process.pid, signal.SIGKILL)
    assert "json-file" in life.out("staging", "cat /etc/docker/daemon.json")
    assert life.out("staging", DRIVER) == "local"
    said = play(life, "docker", "restart_stale", **other)
    assert "changed: " not in said.partition("TASK [restart_stale")[0]
    assert life.out("staging", DRIVER) == "json-file"
    play(life, "docker", "restart_stale")
    assert life.out("staging", DRIVER) == "local"


@pytest.mark.faults
def test_a_host_reboots_if_required_and_all_services_start(life):
    life.out("staging", "sudo touch /run/lost /run/reboot-required")
    kept = life.project.succeed(
        *("run", "patch", "-p", "env", "staging", "-p", "approve", "auto", "-p", "reboot", "false")
    )
    assert "reboot pending" in kept
    life.out("staging", "ls /run/lost")
    said = life.project.step("patch", "staging")
    assert re.search(r"~ changed +base : Reboot the host", said), said
    assert life.on_host("staging", "ls /run/lost").returncode != 0
    life.out("staging", "sudo nft list table inet daybook")
    units = ("daybook-firewall", "docker", "caddy", "github-runner")
    show = "systemctl show --value --property=ActiveEnterTimestampMonotonic "
    first, *others = (int(life.out("staging", show + unit)) for unit in units)
    assert first < min(others), "the rules are loaded before anything that they concern"
    assert life.version("staging")["environment"] == "staging"


def test_ssh_audit_reports_no_failures(life):
    # The last test, because sshd then refuses connections from this address for a while.
    said = life.out(
        "staging",
        "set -e; mkdir -p audit; cd audit; apt-get -q download ssh-audit >&2; "
        "dpkg --extract ssh-audit_*.deb .; export PYTHONPATH=usr/lib/python3/dist-packages; "
        "python3 usr/bin/ssh-audit --no-colors 127.0.0.1 || test $? -eq 2",
    )
    assert re.search(r"\(kex\) .*-- \[info\]", said), said
    assert "[fail]" not in said
