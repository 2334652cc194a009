"""Fixtures for the sandbox's own tests: networks and machines, created through the API."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

DEBIAN = "136693071363"
# Outside the ranges of staging and production, which other tests provision.
RANGES = (f"10.{second}.0.0/16" for second in itertools.count(120))


def wait_until(condition: Callable[[], Any], *, within_s: float = 30) -> Any:
    """Return the result of `condition` once it is true; raise RetryError after `within_s`."""
    return Retrying(
        retry=retry_if_result(lambda result: not result),
        stop=stop_after_delay(within_s),
        wait=wait_fixed(0.1),
    )(condition)


@dataclass(frozen=True)
class Instance:
    """An instance and SSH access to its machine."""

    ec2: Any
    sandbox: Any
    id: str

    @property
    def facts(self) -> dict:
        answer = self.ec2.describe_instances(InstanceIds=[self.id])
        return answer["Reservations"][0]["Instances"][0]

    @property
    def state(self) -> str:
        return self.facts["State"]["Name"]

    @property
    def private_ip(self) -> str:
        return self.facts["PrivateIpAddress"]

    def becomes(self, state: str, *, within_s: float = 30) -> None:
        """Wait for a state in the API."""
        wait_until(lambda: self.state == state, within_s=within_s)

    def has_booted(self) -> Instance:
        """Wait for the end of the first boot, which prints the host keys last."""
        self.becomes("running")
        wait_until(lambda: self.ssh("cloud-init status --wait").returncode in (0, 2))
        return self

    def ssh(self, command: str, *, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command on the machine, with the host keys from its console."""
        known_hosts = self.sandbox.root / ".sandbox/ssh/known_hosts"
        options = [f"HostKeyAlias={self.id}", f"UserKnownHostsFile={known_hosts}"]
        options += ["StrictHostKeyChecking=yes", "IdentitiesOnly=yes", "BatchMode=yes"]
        flags = [part for option in options for part in ("-o", option)]
        key = self.sandbox.env["DAYBOOK_SSH_KEY"]
        return subprocess.run(
            ["ssh", "-i", key, *flags, f"admin@{self.private_ip}", command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    def out(self, command: str) -> str:
        """Return the output of a command, which must succeed."""
        done = self.ssh(command)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@dataclass(frozen=True)
class Vpc:
    """A VPC with one subnet and a key pair."""

    ec2: Any
    sandbox: Any
    id: str
    cidr: str
    subnet: str
    key: str

    def launch(self, **options: Any) -> Instance:
        """Launch an instance and return immediately."""
        image = self.ec2.describe_images(Owners=[DEBIAN])["Images"][0]["ImageId"]
        defaults = {"InstanceType": "t3.micro", "SubnetId": self.subnet, "KeyName": self.key}
        run = self.ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, **(defaults | options))
        return Instance(self.ec2, self.sandbox, run["Instances"][0]["InstanceId"])

    def remove(self) -> None:
        """Terminate its instances and delete it, unless a test has done so."""
        if not self.ec2.describe_vpcs(Filters=[{"Name": "vpc-id", "Values": [self.id]}])["Vpcs"]:
            return
        filters = [{"Name": "vpc-id", "Values": [self.id]}]
        reservations = self.ec2.describe_instances(Filters=filters)
        ids = [
            instance["InstanceId"]
            for group in reservations["Reservations"]
            for instance in group["Instances"]
        ]
        if ids:
            self.ec2.terminate_instances(InstanceIds=ids)
        for id in ids:
            Instance(self.ec2, self.sandbox, id).becomes("terminated")
        self.ec2.delete_subnet(SubnetId=self.subnet)
        self.ec2.delete_vpc(VpcId=self.id)


@pytest.fixture(scope="session")
def eventually() -> Callable[..., Any]:
    """Return a function that waits: eventually(condition, within_s=30)."""
    return wait_until


@pytest.fixture(scope="session")
def aws(sandbox) -> Callable[[str], Any]:
    """Return a function that creates clients of the sandbox: aws("ec2")."""
    env = sandbox.env
    session = boto3.Session(
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        region_name=env["AWS_REGION"],
    )
    return lambda service: session.client(service, endpoint_url=env["AWS_ENDPOINT_URL"])


def vpc_maker(ec2: Any, sandbox: Any) -> Iterator[Callable[..., Vpc]]:
    """Yield a function that creates VPCs; all are removed at the end."""
    created = []

    def make(cidr: str | None = None) -> Vpc:
        cidr = cidr or next(RANGES)
        vpc = ec2.create_vpc(CidrBlock=cidr)["Vpc"]["VpcId"]
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock=cidr.replace("0.0/16", "1.0/24"))
        public = (sandbox.root / ".sandbox/ssh/id_ed25519.pub").read_text()
        ec2.import_key_pair(KeyName=vpc, PublicKeyMaterial=public)
        created.append(Vpc(ec2, sandbox, vpc, cidr, subnet["Subnet"]["SubnetId"], vpc))
        return created[-1]

    yield make
    for vpc in created:
        vpc.remove()


@pytest.fixture(scope="session")
def make_vpcs() -> Callable[..., Iterator[Callable[..., Vpc]]]:
    """Return a generator of VPCs for fixtures of any scope."""
    return vpc_maker


@pytest.fixture(scope="module")
def make_vpc(aws, sandbox) -> Iterator[Callable[..., Vpc]]:
    """Return a function that creates VPCs; all are removed after the module."""
    yield from vpc_maker(aws("ec2"), sandbox)


@pytest.fixture(scope="module")
def vpc(make_vpc) -> Vpc:
    """Return a VPC for the module."""
    return make_vpc()
