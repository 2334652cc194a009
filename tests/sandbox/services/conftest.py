"""A host like those of provision: with an Elastic IP, a security group and a role."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

OPERATOR = "203.0.113.7/32"
ANYONE = "0.0.0.0/0"
TRUST = """{"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
  "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}]}"""
PULL = """{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Resource": "*",
  "Action": ["ecr:GetAuthorizationToken", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]}]}"""
CONNECT_S = 2.0
STARTS_S = 30


@dataclass(frozen=True)
class Host:
    """An instance with an Elastic IP; SSH is open to operators, port 80 to all."""

    ec2: Any
    id: str
    private_ip: str
    public_ip: str
    group_id: str
    role: str
    ssh_folder: Path

    def try_ssh(self, command: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Run a command as admin through the Elastic IP, with the host keys from the console."""
        settings = [f"HostKeyAlias={self.id}", f"UserKnownHostsFile={self.ssh_folder}/known_hosts"]
        settings += ["StrictHostKeyChecking=yes", "IdentitiesOnly=yes", "BatchMode=yes"]
        flags = [part for setting in settings for part in ("-o", setting)]
        key = self.ssh_folder / "id_ed25519"
        login = f"admin@{self.public_ip}"
        return subprocess.run(
            ["ssh", "-F", "none", "-i", key, *flags, *options, login, command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
        )

    def ssh(self, command: str, *options: str) -> str:
        """Return the output of a command, which must succeed."""
        done = self.try_ssh(command, *options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def allow(self, port: int, cidr: str) -> None:
        """Open a TCP port."""
        rule = _rule(port, cidr)
        self.ec2.authorize_security_group_ingress(GroupId=self.group_id, IpPermissions=[rule])

    def revoke(self, port: int, cidr: str) -> None:
        """Close a TCP port."""
        rule = _rule(port, cidr)
        self.ec2.revoke_security_group_ingress(GroupId=self.group_id, IpPermissions=[rule])

    def call(self, port: int, source: str = "127.0.0.1") -> socket.socket:
        """Connect to the Elastic IP from an address of this computer."""
        return socket.create_connection((self.public_ip, port), CONNECT_S, (source, 0))

    def refuses(self, port: int, source: str = "127.0.0.1") -> bool:
        """Return True if no connection is possible."""
        try:
            self.call(port, source).close()
        except (ConnectionRefusedError, TimeoutError):
            return True
        return False


@pytest.fixture(scope="session")
def is_soon() -> Callable[..., bool]:
    """Return a function that waits and returns True if a condition is met in time."""

    def is_soon(holds: Callable[[], bool], within_s: float = 2.0) -> bool:
        return Retrying(
            retry=retry_if_result(lambda result: not result),
            stop=stop_after_delay(within_s),
            wait=wait_fixed(0.05),
            retry_error_callback=lambda _: False,
        )(holds)

    return is_soon


@pytest.fixture(scope="module")
def host(aws, make_vpc, sandbox, is_soon) -> Host:
    """Return a running host for the module."""
    ec2, vpc = aws("ec2"), make_vpc()
    group = ec2.create_security_group(GroupName="host", Description="host", VpcId=vpc.id)["GroupId"]
    _make_role(aws("iam"), vpc.id)
    instance = vpc.launch(
        SecurityGroupIds=[group],
        IamInstanceProfile={"Name": vpc.id},
        MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
    )
    instance.becomes("running", within_s=STARTS_S)
    address = ec2.allocate_address(Domain="vpc")
    ec2.associate_address(AllocationId=address["AllocationId"], InstanceId=instance.id)
    running_host = Host(
        ec2=ec2,
        id=instance.id,
        private_ip=instance.private_ip,
        public_ip=address["PublicIp"],
        group_id=group,
        role=vpc.id,
        ssh_folder=sandbox.root / ".sandbox/ssh",
    )
    running_host.allow(22, OPERATOR)
    running_host.allow(80, ANYONE)
    assert is_soon(lambda: running_host.try_ssh("true").returncode == 0, STARTS_S)
    return running_host


def _rule(port: int, cidr: str) -> dict[str, Any]:
    ports = {"IpProtocol": "tcp", "FromPort": port, "ToPort": port}
    return ports | {"IpRanges": [{"CidrIp": cidr}]}


def _make_role(iam: Any, name: str) -> None:
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=TRUST)
    iam.put_role_policy(RoleName=name, PolicyName="pull", PolicyDocument=PULL)
    iam.create_instance_profile(InstanceProfileName=name)
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
