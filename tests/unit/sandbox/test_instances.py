"""What the sandbox adds to moto's instances, and its CloudTrail; asked through boto3."""

from __future__ import annotations

import operator

import boto3
import pytest
from botocore.exceptions import ClientError
from moto.backends import get_backend
from moto.ec2.models.instances import InstanceState
from moto.server import ThreadedMotoServer
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from daybook_sandbox import cloudtrail, instances


@pytest.fixture(scope="module")
def aws():
    instances.patch()
    cloudtrail.patch()
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    session = boto3.Session("key", "secret", region_name="us-east-1")
    yield lambda service: session.client(service, endpoint_url=f"http://{host}:{port}")
    server.stop()


@pytest.fixture
def ec2(aws):
    return aws("ec2")


def launch(ec2, **wishes) -> str:
    image = ec2.describe_images()["Images"][0]["ImageId"]
    found = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, **wishes)
    return found["Instances"][0]["InstanceId"]


def launch_time(ec2, instance):
    found = ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]
    return found["LaunchTime"]


def settle(instance: str, name: str, code: int) -> None:
    """Bring about a state at once: other tests of this process may have put machines behind it."""
    backend = get_backend("ec2")["123456789012"]["us-east-1"]
    backend.get_instance(instance)._state = InstanceState(name, code)


def test_an_instance_is_protected_from_its_launch_until_that_is_lifted(ec2):
    instance = launch(ec2, DisableApiTermination=True)
    with pytest.raises(ClientError, match="OperationNotPermitted"):
        ec2.terminate_instances(InstanceIds=[instance])
    ec2.modify_instance_attribute(InstanceId=instance, DisableApiTermination={"Value": False})
    ec2.terminate_instances(InstanceIds=[instance])


def test_others_are_not_protected(ec2):
    ec2.terminate_instances(InstanceIds=[launch(ec2)])


def test_a_start_moves_the_launch_time(ec2):
    instance = launch(ec2)
    before = launch_time(ec2, instance)

    def moved() -> bool:
        settle(instance, "running", 16)
        ec2.stop_instances(InstanceIds=[instance])
        settle(instance, "stopped", 80)
        ec2.start_instances(InstanceIds=[instance])
        return launch_time(ec2, instance) > before  # EC2 tells it in whole seconds

    Retrying(retry=retry_if_result(operator.not_), stop=stop_after_delay(5), wait=wait_fixed(0.1))(
        moved
    )


def test_the_trail_tells_who_changed_what(aws, ec2):
    group = ec2.create_security_group(GroupName="g", Description="g")["GroupId"]
    ec2.authorize_security_group_ingress(
        GroupId=group, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="0.0.0.0/0"
    )
    ec2.describe_security_groups(GroupIds=[group])
    key = {"AttributeKey": "ResourceName", "AttributeValue": group}
    [event] = aws("cloudtrail").lookup_events(LookupAttributes=[key])["Events"]
    assert event["EventName"] == "AuthorizeSecurityGroupIngress"
    assert (event["Username"], event["ReadOnly"]) == ("moto", "false")
    assert event["EventTime"].year > 2000
