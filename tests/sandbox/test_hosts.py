"""The roles on a real Debian host, without the application, and what a kill of theirs leaves."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(900)]

NAMESPACE = "hosts/trial"
ROLES = ("patches", "tools", "access", "ssh", "system", "docker", "metrics", "services")
POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "cloudwatch:PutMetricData", "Resource": "*"}],
}
VARIABLES = {
    "app_environment": "staging",
    "app_name": "trial",
    "app_names": ["trial.test"],
    "metrics_namespace": NAMESPACE,
    "tools_role_packages": "{{ patches_packages + system_packages + docker_packages }}",
    "services_expected": "{{ ssh_services + system_services + docker_services"
    " + metrics_services }}",
}


@dataclass(frozen=True)
class Host:
    """One machine, and a project whose roles are played on it."""

    root: Path
    instance: Any

    def start(self, *roles: str, options: tuple[str, ...] = (), **variables: Any):
        """Start a play of some roles, or of all, in a process group of its own."""
        play = {"hosts": "all", "become": True, "gather_facts": False, "vars": VARIABLES}
        playbook = self.root / "ansible/trial.yml"
        playbook.write_text(yaml.safe_dump([play | {"roles": list(roles or ROLES)}]))
        env = self.instance.sandbox.env
        key, extra = env["DAYBOOK_SSH_KEY"], json.dumps(variables)
        words = ["ansible-playbook", "--private-key", key, "-i", "hosts", "-e", extra]
        return subprocess.Popen(
            [Path(sys.executable).with_name(words[0]), *words[1:], *options, playbook],
            cwd=self.root,
            env=os.environ | {"AWS_ACCOUNT_ID": "123456789012", "AWS_REGION": env["AWS_REGION"]},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def play(self, *roles: str, options: tuple[str, ...] = (), **variables: Any) -> str:
        """Play to a good end and return what Ansible said."""
        with self.start(*roles, options=options, **variables) as process:
            said, _ = process.communicate(timeout=600)
        assert process.returncode == 0, said
        return said

    def kill_at(self, task: str, *roles: str, **variables: Any) -> None:
        """Play, and kill all of Ansible when it comes to a task."""
        with self.start(*roles, **variables) as process:
            for line in process.stdout:
                if line.startswith(f"TASK [{task}"):
                    break
            else:
                pytest.fail(f"{task} did not come")
            os.killpg(process.pid, signal.SIGKILL)

    def lets_in(self, key: Path) -> bool:
        """Tell whether somebody with this key may log in."""
        options = [f"HostKeyAlias={self.instance.id}", "BatchMode=yes", "IdentitiesOnly=yes"]
        options += [f"UserKnownHostsFile={self.instance.sandbox.root}/.sandbox/ssh/known_hosts"]
        words = [word for option in options for word in ("-o", option)]
        address = f"admin@{self.instance.private_ip}"
        command = ["ssh", "-F", "none", "-S", "none", "-i", key, *words, address, "true"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 or "Permission denied (publickey)" in done.stderr, done.stderr
        return done.returncode == 0


@pytest.fixture(scope="module")
def profile(aws) -> Iterator[str]:
    """Yield the name of an instance profile that may tell CloudWatch something, and no more."""
    iam, name = aws("iam"), "hosts-trial"
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17"}))
    iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=json.dumps(POLICY))
    iam.create_instance_profile(InstanceProfileName=name)
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    yield name
    iam.remove_role_from_instance_profile(InstanceProfileName=name, RoleName=name)
    iam.delete_instance_profile(InstanceProfileName=name)
    iam.delete_role_policy(RoleName=name, PolicyName="own")
    iam.delete_role(RoleName=name)


@pytest.fixture(scope="module")
def host(vpc, profile, copy_project) -> Host:
    """Return a host on which every role has been played once."""
    instance = vpc.launch(IamInstanceProfile={"Name": profile}, InstanceType="t3.small")
    it = Host(copy_project("hosts"), instance.has_settled())
    known = f"{instance.sandbox.root}/.sandbox/ssh/known_hosts"
    there = {
        "ansible_host": instance.private_ip,
        "ansible_user": "admin",
        "ansible_ssh_common_args": f"-o HostKeyAlias={instance.id} -o UserKnownHostsFile={known}",
    }
    (it.root / "hosts").write_text(json.dumps({"trial": {"hosts": {"trial-1": there}}}))
    it.play()
    return it


@pytest.fixture
def colleague(tmp_path: Path) -> Path:
    """Return the private key of somebody else."""
    key = tmp_path / "colleague"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    return key


def test_a_second_run_changes_nothing_nor_would_it(host):
    for options in ((), ("--check", "--diff")):
        assert re.search(r"trial-1 +: ok=\d+ +changed=0 ", host.play(options=options))


def test_nothing_on_it_has_failed(host):
    assert host.instance.out("systemctl is-system-running") == "running"


def test_keys_come_and_go_with_the_team(host, colleague):
    signers = host.root / "environments/signers"
    before = signers.read_text()
    assert not host.lets_in(colleague)
    public = colleague.with_name("colleague.pub").read_text()
    signers.write_text(f'{before}ann@example.com namespaces="daybook-record" {public}')
    host.play("access")
    assert host.lets_in(colleague)
    signers.write_text(before)
    host.play("access")
    assert not host.lets_in(colleague)


def test_a_list_without_a_key_shuts_nobody_out(host):
    with host.start("access", access_keys=["nobody"]) as process:
        said, _ = process.communicate(timeout=120)
    assert process.returncode == 2, said
    assert host.instance.out("cat ~/.ssh/authorized_keys")


def test_only_keys_are_let_in_and_never_root(host):
    said = host.instance.out("sudo sshd -T").splitlines()
    assert {"passwordauthentication no", "permitrootlogin no", "allowusers admin"} <= set(said)
    ask = "ssh -o BatchMode=yes -o StrictHostKeyChecking=accept-new -v {}@127.0.0.1 2>&1"
    for user in ("root", "admin"):
        refused = host.instance.ssh(ask.format(user)).stdout
        assert "Authentications that can continue: publickey\n" in refused.replace("\r", "")


def test_tools_answer_and_the_aws_cli_is_the_instance(host):
    for tool in ("git", "python3", "pip", "node", "npm", "aws"):
        host.instance.out(f"{tool} --version")
    host.instance.out("docker compose version")
    caller = json.loads(host.instance.out("aws sts get-caller-identity"))
    assert caller["Arn"].endswith(f"assumed-role/hosts-trial/{host.instance.id}")


def test_security_updates_come_by_themselves_and_do_not_reboot(host):
    said = host.instance.out("apt-config dump")
    origins = re.findall(r'^Unattended-Upgrade::Origins-Pattern:: "(.*)";', said, re.MULTILINE)
    assert origins == ["origin=Debian,codename=${distro_codename}-security,label=Debian-Security"]
    assert 'Unattended-Upgrade::Automatic-Reboot "false";' in said
    assert 'APT::Periodic::Unattended-Upgrade "1";' in said
    host.instance.out("sudo unattended-upgrade --dry-run")


def test_cloudwatch_is_told_how_full_the_disk_is(host, aws):
    host.instance.out("systemctl is-active daybook-metrics.timer")
    host.instance.out("sudo systemctl start daybook-metrics.service")
    (metric,) = aws("cloudwatch").list_metrics(Namespace=NAMESPACE)["Metrics"]
    assert metric["MetricName"] == "disk_used_percent"
    assert metric["Dimensions"] == [{"Name": "InstanceId", "Value": host.instance.id}]


def test_a_restart_that_a_kill_has_lost_is_made_by_the_next_run(host):
    driver = "sudo docker info --format '{{ .LoggingDriver }}'"
    assert host.instance.out(driver) == "local"
    other = {"docker_daemon": {"live-restore": True, "log-driver": "json-file"}}
    host.kill_at("docker : Use the credential", "docker", "services", **other)
    assert "json-file" in host.instance.out("cat /etc/docker/daemon.json")
    assert host.instance.out(driver) == "local"
    said = host.play("docker", "services", **other)
    assert "changed: [trial-1]" not in said.partition("TASK [services")[0]
    assert host.instance.out(driver) == "json-file"
    host.play("docker", "services")


def test_a_host_reboots_only_when_it_is_due_and_allowed(host):
    app = "sudo docker run --detach --restart unless-stopped --name app app sleep infinity"
    files = "/usr/bin/sleep /lib64 $(ldd /usr/bin/sleep | grep -o '/[^ ]*')"
    host.instance.out(f"sudo tar -chf - {files} | sudo docker import - app && {app}")
    host.instance.out("sudo touch /run/lost")
    host.play("patches", patches_reboot=True)
    host.instance.out("sudo touch /run/reboot-required")
    host.play("patches")
    assert host.instance.out("ls /run/lost")
    said = host.play("patches", patches_reboot=True)
    assert "changed=1 " in said
    assert host.instance.ssh("ls /run/lost").returncode == 2
    assert host.instance.out("sudo docker ps --format '{{ .Names }}'") == "app"


def test_ssh_audit_finds_no_failure(host):
    # The last: sshd turns away for a while who knocks as it does.
    said = host.instance.ssh(
        "set -e; mkdir -p audit; cd audit; apt-get -q download ssh-audit >&2; "
        "dpkg --extract ssh-audit_*.deb .; export PYTHONPATH=usr/lib/python3/dist-packages; "
        "python3 usr/bin/ssh-audit --no-colors 127.0.0.1"
    ).stdout
    assert re.search(r"\(kex\) .*-- \[info\]", said), said
    assert "[fail]" not in said
