"""A cloud without machines for the sandbox's services, and closed runs for the record."""

from __future__ import annotations

import functools
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.loaders import JSONFileLoader
from moto import mock_aws

from daybook.record import provenance, seal
from daybook.record.journal import Journal
from daybook_sandbox.api import REGION, Cloud
from daybook_sandbox.networks import Network
from daybook_sandbox.state import Ports

# moto starts from nothing for each test; the megabytes that describe AWS services load once.
_load_once = functools.cache(functools.partial(JSONFileLoader.load_file, JSONFileLoader()))
JSONFileLoader.load_file = lambda _self, path: _load_once(path)

TRUST = '{"Version": "2012-10-17", "Statement": []}'


@dataclass(frozen=True)
class World:
    """moto's backends in this process, and one instance as provision makes it.

    Its private address is on loopback, so that a test can call from there.
    """

    cloud: Cloud
    ports: Ports
    network: Network
    instance: Any

    def client(self, service: str) -> Any:
        return boto3.client(service, region_name=REGION)


@pytest.fixture
def world() -> Iterator[World]:
    with mock_aws():
        network = Network("net", "vpc", "127.77.0.0/24", "127.77.0.1")
        ports = Ports(**{name: free_port() for name in Ports.__dataclass_fields__})
        yield World(Cloud(), ports, network, make_instance("127.77.0.4"))


@pytest.fixture
def port() -> int:
    return free_port()


def make_instance(private_ip: str) -> Any:
    """Run an instance with a role, a key pair, a security group without rules and an Elastic IP."""
    ec2, iam = boto3.client("ec2", region_name=REGION), boto3.client("iam", region_name=REGION)
    iam.create_role(RoleName="hello-host", AssumeRolePolicyDocument=TRUST)
    iam.create_instance_profile(InstanceProfileName="hello")
    iam.add_role_to_instance_profile(InstanceProfileName="hello", RoleName="hello-host")
    ec2.create_key_pair(KeyName="ann", KeyType="ed25519")
    vpc = ec2.create_vpc(CidrBlock="10.20.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.20.0.0/24", AvailabilityZone="us-east-1a")[
        "Subnet"
    ]["SubnetId"]
    group = ec2.create_security_group(GroupName="web", Description="web", VpcId=vpc)["GroupId"]
    backend = Cloud().ec2
    made = ec2.run_instances(
        ImageId=next(iter(backend.amis)),
        MinCount=1,
        MaxCount=1,
        InstanceType="t3.small",
        KeyName="ann",
        SubnetId=subnet,
        SecurityGroupIds=[group],
        UserData="#cloud-config\n",
        IamInstanceProfile={"Name": "hello"},
        MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 2},
    )
    instance = backend.get_instance(made["Instances"][0]["InstanceId"])
    instance._state.name, instance._state.code = "running", 16
    instance.nics[0].private_ip_address = private_ip
    allocation = ec2.allocate_address(Domain="vpc")["AllocationId"]
    ec2.associate_address(AllocationId=allocation, InstanceId=instance.id)
    return instance


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an operator's private key."""
    path = tmp_path_factory.mktemp("ssh") / "key"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ann", "-f"]
    subprocess.run([*command, path], check=True)
    return path


@pytest.fixture
def open_run(tmp_path: Path) -> Callable[..., Journal]:
    """Return what begins a run: `open_run("r1", step="provision")` gives its journal."""

    def begin(run: str = "r1", **given: Any) -> Journal:
        header = {"run": run, "step": "provision", "environment": "staging", "target": "aws"}
        header |= {"account": "123456789012", "region": "us-east-1", "parameters": {"size": 1}}
        header |= {"operator": {"user": "ann", "name": "Ann", "email": "ann@example.com"}}
        header |= {"git": {"commit": "0" * 40, "branch": "main", "dirty": []}}
        header |= {"host": {"name": "here", "system": "Linux"}, "versions": {"python": "3.11"}}
        header |= {"kernel": provenance.kernel()} | given
        journal = Journal.create(tmp_path / "runs" / header["environment"] / run, header)
        journal.write("phase", name="plan", state="started")
        journal.write("plan", digest="plan-0123456789abcdef", changes=["create vpc.this"])
        journal.write("phase", name="plan", state="ended")
        journal.write("cell_start", cell=1, source="step.plan()", sha256="0" * 64)
        journal.write(
            "output", cell=1, type="stream", name="stdout", text=f"{run}: one to create\n"
        )
        journal.write("cell_end", cell=1, status="ok", seconds=0.5)
        return journal

    return begin


@pytest.fixture
def closed_run(open_run: Callable[..., Journal], key: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return what makes a closed and signed run: `closed_run("r1")` gives its folder."""
    (tmp_path / "environments").mkdir()
    public = " ".join(key.with_name("key.pub").read_text().split()[:2])
    signers = tmp_path / "environments/signers"
    signers.write_text(f'ann@example.com namespaces="daybook-record" {public}\n')

    def close(run: str = "r1", status: str = "succeeded", sign: bool = True, **given: Any) -> Path:
        journal = open_run(run, **given)
        folder = journal.path.parent
        (folder / "attachments").mkdir()
        (folder / "attachments/01-terraform.log").write_text("Apply complete\n")
        seal.close(folder, status, open_journal=journal, key=key if sign else None)
        return folder

    return close
