"""Ground for the sandbox's own tests: networks and machines, made through the API."""

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
# Far from the ranges of staging and production, which other tests provision.
RANGES = (f"10.{second}.0.0/16" for second in itertools.count(120))


def wait_until(look: Callable[[], Any], *, within_s: float = 30) -> Any:
    """Return what `look` gives once it is true; RetryError when it never is."""
    return Retrying(
        retry=retry_if_result(lambda seen: not seen),
        stop=stop_after_delay(within_s),
        wait=wait_fixed(0.1),
    )(look)


@dataclass(frozen=True)
class Instance:
    """One machine, as its operator sees it."""

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
        """Wait until the API gives this state."""
        wait_until(lambda: self.state == state, within_s=within_s)

    def has_settled(self) -> Instance:
        """Wait for the end of the first boot, whose last step prints the host keys."""
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
        """Return what a command prints; it must succeed."""
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

    def launch(self, **wishes: Any) -> Instance:
        """Run one instance, and return at once."""
        image = self.ec2.describe_images(Owners=[DEBIAN])["Images"][0]["ImageId"]
        usual = {"InstanceType": "t3.micro", "SubnetId": self.subnet, "KeyName": self.key}
        run = self.ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, **(usual | wishes))
        return Instance(self.ec2, self.sandbox, run["Instances"][0]["InstanceId"])

    def remove(self) -> None:
        """Terminate what runs in it, and delete it, unless a test has done so."""
        if not self.ec2.describe_vpcs(Filters=[{"Name": "vpc-id", "Values": [self.id]}])["Vpcs"]:
            return
        found = self.ec2.describe_instances(Filters=[{"Name": "vpc-id", "Values": [self.id]}])
        instances = [each for group in found["Reservations"] for each in group["Instances"]]
        if instances:
            self.ec2.terminate_instances(InstanceIds=[each["InstanceId"] for each in instances])
        for each in instances:
            Instance(self.ec2, self.sandbox, each["InstanceId"]).becomes("terminated")
        self.ec2.delete_subnet(SubnetId=self.subnet)
        self.ec2.delete_vpc(VpcId=self.id)


@pytest.fixture(scope="session")
def eventually() -> Callable[..., Any]:
    """Return what waits: eventually(look, within_s=30)."""
    return wait_until


@pytest.fixture(scope="session")
def aws(sandbox) -> Callable[[str], Any]:
    """Return what makes a client of a service of the sandbox: aws("ec2")."""
    env = sandbox.env
    session = boto3.Session(
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        region_name=env["AWS_REGION"],
    )
    return lambda service: session.client(service, endpoint_url=env["AWS_ENDPOINT_URL"])


def open_ground(ec2: Any, sandbox: Any) -> Iterator[Callable[..., Vpc]]:
    """Yield what makes a VPC; all go when whoever asked is done."""
    made = []

    def make(cidr: str | None = None) -> Vpc:
        cidr = cidr or next(RANGES)
        vpc = ec2.create_vpc(CidrBlock=cidr)["Vpc"]["VpcId"]
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock=cidr.replace("0.0/16", "1.0/24"))
        public = (sandbox.root / ".sandbox/ssh/id_ed25519.pub").read_text()
        ec2.import_key_pair(KeyName=vpc, PublicKeyMaterial=public)
        made.append(Vpc(ec2, sandbox, vpc, cidr, subnet["Subnet"]["SubnetId"], vpc))
        return made[-1]

    yield make
    for vpc in made:
        vpc.remove()


@pytest.fixture(scope="session")
def ground() -> Callable[..., Iterator[Callable[..., Vpc]]]:
    """Return what gives VPCs to a fixture of any scope."""
    return open_ground


@pytest.fixture(scope="module")
def make_vpc(aws, sandbox) -> Iterator[Callable[..., Vpc]]:
    """Return what makes a VPC; all go when the module ends."""
    yield from open_ground(aws("ec2"), sandbox)


@pytest.fixture(scope="module")
def vpc(make_vpc) -> Vpc:
    """Return a VPC for the module."""
    return make_vpc()
