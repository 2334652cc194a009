"""The AWS API: moto's server in this process, with the EC2 life cycle tied to real machines."""

from __future__ import annotations

import functools
import ipaddress
import itertools
import platform
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from moto import settings
from moto.backends import get_backend
from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import amis, elastic_ip_addresses
from moto.ec2.models.instances import Instance, InstanceBackend, InstanceState, StateReason
from moto.ec2.responses.general import General
from moto.ec2.utils import Base64EncodedString
from moto.server import ThreadedMotoServer

from daybook_sandbox import (
    atomic_writes,
    bucket_policies,
    cloudtrail,
    instances,
    permissions,
    serial,
    simulator,
    snapshot_lifecycle,
)

ACCOUNT = "123456789012"
REGION = "us-east-1"
ELASTIC_IPS = ipaddress.ip_network("127.90.0.0/16")
DEBIAN = "136693071363"
CONSOLE_BYTES = 65536
STATES = {
    "pending": 0,
    "running": 16,
    "shutting-down": 32,
    "terminated": 48,
    "stopping": 64,
    "stopped": 80,
}


class Machinery(Protocol):
    """The operations that the API requests of machines; each returns immediately."""

    def launch(self, instance: Instance) -> None: ...
    def start(self, instance: Instance) -> None: ...
    def stop(self, instance: Instance) -> None: ...
    def reboot(self, instance: Instance) -> None: ...
    def terminate(self, instance: Instance) -> None: ...
    def console(self, instance: Instance) -> str: ...


@dataclass
class Cloud:
    """Read access to the API's state; `ec2` and `ecr` are the backends of the default region.

    Values are moto's own objects, so they are always current.
    """

    account: str = ACCOUNT
    region: str = REGION
    _server: ThreadedMotoServer | None = field(default=None, repr=False)

    def start(self, machinery: Machinery, port: int) -> None:
        """Serve the API on loopback; port 0 selects a free port."""
        patch(machinery)
        self._server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
        self._server.start()

    def close(self) -> None:
        """Stop serving; the state is lost with the process."""
        if self._server:
            self._server.stop()

    @property
    def endpoint_port(self) -> int:
        return self._server.get_host_and_port()[1]

    @property
    def ec2(self) -> Any:
        return self.regional("ec2")

    @property
    def ecr(self) -> Any:
        return self.regional("ecr")

    @property
    def iam(self) -> Any:
        return self.regional("iam", "aws")

    @property
    def sts(self) -> Any:
        return self.regional("sts", "aws")

    @property
    def route53(self) -> Any:
        return self.regional("route53", "aws")

    def regional(self, service: str, region: str | None = None) -> Any:
        """Return a service's backend in one region."""
        return get_backend(service)[self.account][region or self.region]

    def regions(self, service: str) -> list[Any]:
        """Return a service's backends in every region used so far."""
        return list(get_backend(service)[self.account].values())

    def instances(self) -> Iterator[Instance]:
        """Yield the instances of all regions, including terminated ones."""
        return itertools.chain.from_iterable(ec2.all_instances() for ec2 in self.regions("ec2"))

    def vpcs(self) -> dict[str, str]:
        """Return the CIDR block of each VPC of all regions by VPC id."""
        vpcs = [list(ec2.vpcs.values()) for ec2 in self.regions("ec2")]
        return {vpc.id: vpc.cidr_block for vpc in itertools.chain.from_iterable(vpcs)}

    def instance_by_private_ip(self, ip: str) -> Instance | None:
        """Return the live instance with a private address."""
        return next((i for i in self.instances() if i.private_ip == ip and is_live(i)), None)

    def instance_by_public_ip(self, ip: str) -> Instance | None:
        """Return the live instance that an Elastic IP is associated with."""
        for ec2 in self.regions("ec2"):
            for address in list(ec2.addresses):
                instance = address.instance or getattr(address.eni, "instance", None)
                if address.public_ip == ip and instance and is_live(instance):
                    return instance
        return None

    def public_ip(self, instance: Instance) -> str | None:
        """Return the Elastic IP of an instance."""
        for address in list(instance.ec2_backend.addresses):
            if instance in (address.instance, getattr(address.eni, "instance", None)):
                return address.public_ip
        return None


def is_live(instance: Instance) -> bool:
    """Return True while an instance keeps its addresses."""
    return instance.state not in ("shutting-down", "terminated")


def tag(instance: Instance, key: str) -> str:
    """Return the value of an instance's tag; empty if the tag is missing."""
    return next((tag["value"] for tag in instance.get_tags() if tag["key"] == key), "")


def transition(instance: Instance, before: str, after: str, reason: str = "") -> bool:
    """Change an instance's state unless the API has changed it from `before` in the meantime."""
    if instance.state != before:
        return False
    instance._state = InstanceState(after, STATES[after])
    if reason:
        instance.state_reason = StateReason(reason, reason.partition(":")[0])
    return True


def patch(machinery: Machinery) -> None:
    """Make moto's EC2 wait for machines, return their console output and offer Debian 13."""
    settings.ENABLE_AMI_VALIDATION = True
    amis.AmiBackend._load_amis = _load_amis
    elastic_ip_addresses.random_ip = functools.partial(next, _elastic_ips())
    bucket_policies.patch()
    permissions.patch()
    atomic_writes.patch()
    instances.patch()
    cloudtrail.patch()
    serial.patch()
    simulator.patch()
    snapshot_lifecycle.patch(ACCOUNT)
    _patch_launch(machinery)
    _patch_change(machinery, "start", leaves="stopped", enters="pending", final="running")
    _patch_change(machinery, "stop", leaves="running", enters="stopping", final="stopped")
    _patch_terminate(machinery)
    Instance.reboot = lambda self: machinery.reboot(self)
    General.get_console_output = functools.partialmethod(_console_output, machinery)


def _patch_launch(machinery: Machinery) -> None:
    create, run = Instance.__init__, InstanceBackend.run_instances

    @functools.wraps(create)
    def create_pending(self, *args, **kwargs):
        create(self, *args, **kwargs)
        self._state = InstanceState("pending", STATES["pending"])

    @functools.wraps(run)
    def run_and_launch(self, *args, **kwargs):
        reservation = run(self, *args, **kwargs)
        for instance in reservation.instances:
            machinery.launch(instance)
        return reservation

    Instance.__init__, InstanceBackend.run_instances = create_pending, run_and_launch


def _patch_change(machinery: Machinery, verb: str, *, leaves: str, enters: str, final: str) -> None:
    """Put start and stop through their transitional state; refuse them in any other state."""
    original = getattr(Instance, verb)

    @functools.wraps(original)
    def change(self):
        before = InstanceState(self.state, self.state_code)
        if before.name in (enters, final):
            return before
        if before.name != leaves:
            raise EC2ClientError(
                "IncorrectInstanceState",
                f"The instance '{self.id}' is {before.name}: it cannot {verb}.",
            )
        original(self)
        self._state = InstanceState(enters, STATES[enters])
        getattr(machinery, verb)(self)
        return before

    setattr(Instance, verb, change)


def _patch_terminate(machinery: Machinery) -> None:
    original = Instance.terminate

    @functools.wraps(original)
    def terminate(self):
        before = InstanceState(self.state, self.state_code)
        if is_live(self):
            original(self)
            _disassociate_address(self)
            self._state = InstanceState("shutting-down", STATES["shutting-down"])
            machinery.terminate(self)
        return before

    Instance.terminate = terminate


def _disassociate_address(instance: Instance) -> None:
    """Disassociate the Elastic IP of a terminated instance; moto does not."""
    for address in instance.ec2_backend.addresses:
        if instance in (address.instance, getattr(address.eni, "instance", None)):
            address.instance = address.eni = address.association_id = None


def _console_output(self: General, machinery: Machinery) -> ActionResult:
    instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
    console = machinery.console(instance)[-CONSOLE_BYTES:]
    return ActionResult(
        {
            "InstanceId": instance.id,
            "Timestamp": datetime.now(UTC),
            "Output": Base64EncodedString.from_raw_string(console),
        }
    )


def _elastic_ips() -> Iterator[str]:
    """Yield each address once: a released one must never belong to a later instance."""
    return (str(address) for address in itertools.islice(ELASTIC_IPS.hosts(), 256, None))


def _load_amis(self: amis.AmiBackend) -> None:
    """Offer Debian 13 for this computer's architecture, named as Debian publishes it."""
    arch, suffix = ("arm64", "a") if platform.machine() == "aarch64" else ("x86_64", "b")
    name = f"debian-13-{'arm64' if arch == 'arm64' else 'amd64'}-20250814-2204"
    self.amis[f"ami-0deb13000000000{suffix}0"] = amis.Ami(
        self,
        f"ami-0deb13000000000{suffix}0",
        name=name,
        description="Debian 13",
        owner_id=DEBIAN,
        public=True,
        virtualization_type="hvm",
        architecture=arch,
        creation_date=datetime(2025, 8, 14, 22, 4, tzinfo=UTC),
        image_location=f"amazon/{name}",
        hypervisor="xen",
        root_device_type="ebs",
        root_device_name="/dev/xvda",
        sriov="simple",
        region_name=f"{self.region_name}a",
    )
