"""The additions to moto's instances and CloudTrail, tested through boto3."""

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


def launch(ec2, **options) -> str:
    image = ec2.describe_images()["Images"][0]["ImageId"]
    reservation = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, **options)
    return reservation["Instances"][0]["InstanceId"]


def launch_time(ec2, instance):
    described = ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]
    return described["LaunchTime"]


def set_state(instance: str, name: str, code: int) -> None:
    """Set a state directly: other tests in this process may have patched the life cycle."""
    backend = get_backend("ec2")["123456789012"]["us-east-1"]
    backend.get_instance(instance)._state = InstanceState(name, code)


def test_termination_protection_applies_from_launch_until_it_is_removed(ec2):
    instance = launch(ec2, DisableApiTermination=True)
    with pytest.raises(ClientError, match="OperationNotPermitted"):
        ec2.terminate_instances(InstanceIds=[instance])
    ec2.modify_instance_attribute(InstanceId=instance, DisableApiTermination={"Value": False})
    ec2.terminate_instances(InstanceIds=[instance])


def test_other_instances_are_not_protected(ec2):
    instance = launch(ec2)
    ec2.terminate_instances(InstanceIds=[instance])
    described = ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]
    assert described["State"]["Name"] in ("shutting-down", "terminated")


def test_a_start_updates_the_launch_time(ec2):
    instance = launch(ec2)
    before = launch_time(ec2, instance)

    def is_updated() -> bool:
        set_state(instance, "running", 16)
        ec2.stop_instances(InstanceIds=[instance])
        set_state(instance, "stopped", 80)
        ec2.start_instances(InstanceIds=[instance])
        return launch_time(ec2, instance) > before  # EC2 reports whole seconds

    Retrying(retry=retry_if_result(operator.not_), stop=stop_after_delay(5), wait=wait_fixed(0.1))(
        is_updated
    )


def test_cloudtrail_reports_the_user_and_the_change(aws, ec2):
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
