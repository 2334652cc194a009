"""Run Command: scripts, targets and refusals."""

from __future__ import annotations

import json
import subprocess

import pytest
from botocore.exceptions import ClientError
from moto.ssm.responses import SimpleSystemManagerResponse
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from daybook_sandbox import runcommand

DOCUMENT = {
    "schemaVersion": "2.2",
    "parameters": {
        "image": {"type": "String", "allowedPattern": "^[a-z]+$"},
        "run": {"type": "String", "default": "0", "allowedPattern": "^[0-9]+$"},
    },
    "mainSteps": [
        {
            "action": "aws:runShellScript",
            "name": "release",
            "inputs": {
                "runCommand": ["echo '{{ image }}' '{{ run }}'", "test '{{ image }}' != bad"]
            },
        }
    ],
}


def execute(instance, script):
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def ssm(world, monkeypatch):
    """Return a client; the only machine is managed, and its commands run on this computer."""
    for name in ("send_command", "list_commands", "get_command_invocation"):
        original = getattr(SimpleSystemManagerResponse, name)
        monkeypatch.setattr(SimpleSystemManagerResponse, name, original)
    name = "list_command_invocations"
    monkeypatch.setattr(SimpleSystemManagerResponse, name, None, raising=False)
    runcommand.patch(execute, world.cloud.instances, lambda _: True)
    world.client("ec2").create_tags(
        Resources=[world.instance.id], Tags=[{"Key": "environment", "Value": "staging"}]
    )
    client = world.client("ssm")
    client.create_document(
        Name="hello-staging-release", DocumentType="Command", Content=json.dumps(DOCUMENT)
    )
    return client


def send(ssm, environment: str = "staging", **parameters: str) -> str:
    answer = ssm.send_command(
        DocumentName="hello-staging-release",
        Targets=[{"Key": "tag:environment", "Values": [environment]}],
        Parameters={name: [value] for name, value in parameters.items()},
    )
    return answer["Command"]["CommandId"]


def completed(ssm, command: str) -> dict:
    return Retrying(
        retry=retry_if_result(lambda result: result["Status"] in ("Pending", "InProgress")),
        stop=stop_after_delay(10),
        wait=wait_fixed(0.02),
    )(lambda: ssm.list_commands(CommandId=command)["Commands"][0])


def test_a_document_runs_with_its_parameters(ssm, world):
    result = completed(ssm, command := send(ssm, image="good", run="7"))
    assert (result["Status"], result["TargetCount"]) == ("Success", 1)
    listed = ssm.list_command_invocations(CommandId=command, Details=True)["CommandInvocations"][0]
    assert listed["CommandPlugins"][0]["Output"] == "good 7\n"
    invocation = ssm.get_command_invocation(CommandId=command, InstanceId=world.instance.id)
    assert (invocation["ResponseCode"], invocation["StandardOutputContent"]) == (0, "good 7\n")


def test_a_failed_script_fails_its_command(ssm):
    assert completed(ssm, send(ssm, image="bad"))["Status"] == "Failed"


def test_unmatched_tags_target_no_instance(ssm):
    result = completed(ssm, send(ssm, "production", image="good"))
    assert (result["TargetCount"], result["StatusDetails"]) == (0, "NoInstancesInTag")


@pytest.mark.parametrize("parameters", [{"image": "x; reboot"}, {}, {"image": "x", "other": "y"}])
def test_parameters_that_the_document_does_not_allow_are_refused(ssm, parameters):
    with pytest.raises(ClientError) as refused:
        send(ssm, **parameters)
    assert refused.value.response["Error"]["Code"] == "InvalidParameters"


def test_aws_runshellscript_runs_the_senders_commands(ssm, world):
    command = ssm.send_command(
        DocumentName="AWS-RunShellScript",
        InstanceIds=[world.instance.id],
        Parameters={"commands": ["echo one", "echo two"]},
    )["Command"]["CommandId"]
    completed(ssm, command)
    invocation = ssm.get_command_invocation(CommandId=command, InstanceId=world.instance.id)
    assert invocation["StandardOutputContent"] == "one\ntwo\n"


def test_an_unmanaged_machine_is_refused_as_a_target(ssm):
    with pytest.raises(ClientError) as refused:
        ssm.send_command(DocumentName="AWS-RunShellScript", InstanceIds=["i-0123456789abcdef0"])
    assert refused.value.response["Error"]["Code"] == "InvalidInstanceId"
