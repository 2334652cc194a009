"""moto's EC2 with the life cycle tied to machines."""

from dataclasses import dataclass, field

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import settings
from moto.ec2.models import amis, elastic_ip_addresses
from moto.ec2.models.instances import Instance, InstanceBackend
from moto.ec2.responses.general import General
from moto.ec2.responses.instances import InstanceResponse

from daybook_sandbox import api

PATCHED = (
    (settings, "ENABLE_AMI_VALIDATION"),
    (amis.AmiBackend, "_load_amis"),
    (elastic_ip_addresses, "random_ip"),
    (General, "get_console_output"),
    (InstanceBackend, "run_instances"),
    (InstanceResponse, "run_instances"),
    *((Instance, name) for name in ("__init__", "start", "stop", "terminate", "reboot")),
)
"""Attributes to restore for other tests in this process."""


@dataclass
class Machinery:
    """Record requests without acting on them."""

    requests: list = field(default_factory=list)

    def console(self, instance):
        return f"console of {instance.id}"

    def __getattr__(self, name):
        if name not in ("launch", "start", "stop", "reboot", "terminate"):
            raise AttributeError(name)
        return lambda instance: self.requests.append((name, instance.id))


@pytest.fixture(scope="module")
def machinery():
    return Machinery()


@pytest.fixture(scope="module")
def cloud(machinery):
    """Serve one API for the module, because patching moto twice would notify two machineries."""
    cloud = api.Cloud()
    with pytest.MonkeyPatch.context() as restored:
        for owner, name in PATCHED:
            restored.setattr(owner, name, getattr(owner, name))
        cloud.start(machinery, 0)
        cloud.ec2.reset()
        yield cloud
        cloud.close()


@pytest.fixture
def ec2(cloud):
    return boto3.client(
        "ec2",
        endpoint_url=f"http://127.0.0.1:{cloud.endpoint_port}",
        region_name="us-east-1",
        aws_access_key_id="AKIATEST",
        aws_secret_access_key="test",
    )


@pytest.fixture
def image_id(ec2):
    filters = [{"Name": "name", "Values": ["debian-13-*"]}]
    return ec2.describe_images(Owners=[api.DEBIAN], Filters=filters)["Images"][0]["ImageId"]


@pytest.fixture
def instance(cloud, ec2, image_id):
    run = ec2.run_instances(ImageId=image_id, MinCount=1, MaxCount=1, InstanceType="t3.small")
    instance_id = run["Instances"][0]["InstanceId"]
    return next(known for known in cloud.instances() if known.id == instance_id)


def described(ec2, instance):
    answer = ec2.describe_instances(InstanceIds=[instance.id])
    return answer["Reservations"][0]["Instances"][0]["State"]["Name"]


def test_a_new_instance_is_pending_until_its_machine_is_running(ec2, machinery, instance):
    assert ("launch", instance.id) in machinery.requests
    assert described(ec2, instance) == "pending"
    assert api.transition(instance, "pending", "running")
    assert described(ec2, instance) == "running"


def test_stop_and_start_pass_through_transitional_states(ec2, machinery, instance):
    api.transition(instance, "pending", "running")
    ec2.stop_instances(InstanceIds=[instance.id])
    assert described(ec2, instance) == "stopping"
    api.transition(instance, "stopping", "stopped")
    ec2.start_instances(InstanceIds=[instance.id])
    assert described(ec2, instance) == "pending"
    requests = [request for request, id in machinery.requests if id == instance.id]
    assert requests == ["launch", "stop", "start"]


def test_a_pending_instance_cannot_be_stopped(ec2, instance):
    with pytest.raises(ClientError, match="IncorrectInstanceState"):
        ec2.stop_instances(InstanceIds=[instance.id])


def test_stopping_twice_stops_the_machine_once(ec2, machinery, instance):
    api.transition(instance, "pending", "running")
    ec2.stop_instances(InstanceIds=[instance.id])
    ec2.stop_instances(InstanceIds=[instance.id])
    assert machinery.requests.count(("stop", instance.id)) == 1


def test_a_rebooting_instance_stays_running(ec2, machinery, instance):
    api.transition(instance, "pending", "running")
    ec2.reboot_instances(InstanceIds=[instance.id])
    assert described(ec2, instance) == "running"
    assert ("reboot", instance.id) in machinery.requests


def test_a_machine_that_boots_late_does_not_undo_terminate(ec2, instance):
    ec2.terminate_instances(InstanceIds=[instance.id])
    assert not api.transition(instance, "pending", "running")
    assert described(ec2, instance) == "shutting-down"


def test_console_output_comes_from_the_machine(ec2, instance):
    assert ec2.get_console_output(InstanceId=instance.id)["Output"] == f"console of {instance.id}"


def test_an_elastic_ip_is_in_the_block_and_belongs_to_its_instance(cloud, ec2, instance):
    address = ec2.allocate_address(Domain="vpc")
    ec2.associate_address(InstanceId=instance.id, AllocationId=address["AllocationId"])
    assert api.ipaddress.ip_address(address["PublicIp"]) in api.ELASTIC_IPS
    assert cloud.instance_by_public_ip(address["PublicIp"]) is instance
    assert cloud.public_ip(instance) == address["PublicIp"]


def test_terminate_disassociates_the_elastic_ip(cloud, ec2, instance):
    address = ec2.allocate_address(Domain="vpc")
    ec2.associate_address(InstanceId=instance.id, AllocationId=address["AllocationId"])
    ec2.terminate_instances(InstanceIds=[instance.id])
    assert cloud.instance_by_public_ip(address["PublicIp"]) is None
    [released] = ec2.describe_addresses(AllocationIds=[address["AllocationId"]])["Addresses"]
    assert "AssociationId" not in released


def test_no_elastic_ip_is_allocated_twice(ec2):
    first = ec2.allocate_address(Domain="vpc")
    ec2.release_address(AllocationId=first["AllocationId"])
    assert ec2.allocate_address(Domain="vpc")["PublicIp"] != first["PublicIp"]


def test_a_terminated_instance_has_no_private_address(cloud, ec2, instance):
    assert cloud.instance_by_private_ip(instance.private_ip) is instance
    ec2.terminate_instances(InstanceIds=[instance.id])
    assert cloud.instance_by_private_ip(instance.private_ip) is not instance


def test_an_unknown_image_is_refused(ec2):
    with pytest.raises(ClientError, match=r"InvalidAMIID\.NotFound"):
        ec2.run_instances(ImageId="ami-0123456789abcdef0", MinCount=1, MaxCount=1)
