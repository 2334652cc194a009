"""moto's EC2 with its life cycle handed to machines."""

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
"""What other tests of this process want as moto has it."""


@dataclass
class Machinery:
    """Notes what it was asked for, and does nothing."""

    asked: list = field(default_factory=list)

    def console(self, instance):
        return f"console of {instance.id}"

    def __getattr__(self, name):
        if name not in ("launch", "start", "stop", "reboot", "terminate"):
            raise AttributeError(name)
        return lambda instance: self.asked.append((name, instance.id))


@pytest.fixture(scope="module")
def machinery():
    return Machinery()


@pytest.fixture(scope="module")
def cloud(machinery):
    """Serve one API for the module: patching moto twice would call two machineries."""
    cloud = api.Cloud()
    with pytest.MonkeyPatch.context() as afterwards:
        for owner, name in PATCHED:
            afterwards.setattr(owner, name, getattr(owner, name))
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
    return next(found for found in cloud.instances() if found.id == instance_id)


def described(ec2, instance):
    answer = ec2.describe_instances(InstanceIds=[instance.id])
    return answer["Reservations"][0]["Instances"][0]["State"]["Name"]


def test_a_new_instance_is_pending_until_its_machine_runs(ec2, machinery, instance):
    assert ("launch", instance.id) in machinery.asked
    assert described(ec2, instance) == "pending"
    assert api.settle(instance, "pending", "running")
    assert described(ec2, instance) == "running"


def test_stop_and_start_go_through_their_middle_states(ec2, machinery, instance):
    api.settle(instance, "pending", "running")
    ec2.stop_instances(InstanceIds=[instance.id])
    assert described(ec2, instance) == "stopping"
    api.settle(instance, "stopping", "stopped")
    ec2.start_instances(InstanceIds=[instance.id])
    assert described(ec2, instance) == "pending"
    asked = [what for what, which in machinery.asked if which == instance.id]
    assert asked == ["launch", "stop", "start"]


def test_a_pending_instance_cannot_be_stopped(ec2, instance):
    with pytest.raises(ClientError, match="IncorrectInstanceState"):
        ec2.stop_instances(InstanceIds=[instance.id])


def test_stopping_twice_asks_the_machine_once(ec2, machinery, instance):
    api.settle(instance, "pending", "running")
    ec2.stop_instances(InstanceIds=[instance.id])
    ec2.stop_instances(InstanceIds=[instance.id])
    assert machinery.asked.count(("stop", instance.id)) == 1


def test_a_rebooting_instance_stays_running(ec2, machinery, instance):
    api.settle(instance, "pending", "running")
    ec2.reboot_instances(InstanceIds=[instance.id])
    assert described(ec2, instance) == "running"
    assert ("reboot", instance.id) in machinery.asked


def test_a_machine_that_comes_up_late_does_not_undo_terminate(ec2, instance):
    ec2.terminate_instances(InstanceIds=[instance.id])
    assert not api.settle(instance, "pending", "running")
    assert described(ec2, instance) == "shutting-down"


def test_the_console_is_the_machines(ec2, instance):
    assert ec2.get_console_output(InstanceId=instance.id)["Output"] == f"console of {instance.id}"


def test_an_elastic_ip_is_in_the_block_and_leads_to_its_instance(cloud, ec2, instance):
    address = ec2.allocate_address(Domain="vpc")
    ec2.associate_address(InstanceId=instance.id, AllocationId=address["AllocationId"])
    assert api.ipaddress.ip_address(address["PublicIp"]) in api.ELASTIC_IPS
    assert cloud.instance_by_public_ip(address["PublicIp"]) is instance
    assert cloud.public_ip(instance) == address["PublicIp"]


def test_terminate_gives_the_elastic_ip_back(cloud, ec2, instance):
    address = ec2.allocate_address(Domain="vpc")
    ec2.associate_address(InstanceId=instance.id, AllocationId=address["AllocationId"])
    ec2.terminate_instances(InstanceIds=[instance.id])
    assert cloud.instance_by_public_ip(address["PublicIp"]) is None
    found = ec2.describe_addresses(AllocationIds=[address["AllocationId"]])["Addresses"][0]
    assert "AssociationId" not in found


def test_no_elastic_ip_is_given_twice(ec2):
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
