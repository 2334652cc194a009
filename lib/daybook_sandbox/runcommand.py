"""Systems Manager's Run Command, which runs the commands on the machines as root.

moto only stores a command and reports success. Here a document's script runs in a systemd service,
as the agent would run it; unmanaged instances are never targets.
https://docs.aws.amazon.com/systems-manager/latest/userguide/run-command.html
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from moto.core.exceptions import JsonRESTError
from moto.core.responses import ActionResult
from moto.ec2.models.instances import Instance
from moto.ssm.responses import SimpleSystemManagerResponse as Responses

SHELL_SCRIPT = "AWS-RunShellScript"
PLUGIN = "aws:runShellScript"
OUTPUT_BYTES = 24000
PENDING, RUNNING, DONE, FAILED = "Pending", "InProgress", "Success", "Failed"
_PLACEHOLDER = re.compile(r"\{\{\s*(\w+)\s*\}\}")

Execute = Callable[[Instance, str], tuple[int, str, str]]


@dataclass
class Invocation:
    """A command on one machine."""

    instance: Instance
    status: str = PENDING
    code: int = -1
    out: str = ""
    err: str = ""

    def run(self, execute: Execute, script: str) -> None:
        """Run the script and record its result."""
        self.status = RUNNING
        try:
            self.code, self.out, self.err = execute(self.instance, script)
        except Exception as error:  # A removed machine fails only its own invocation.
            self.err = str(error)
        self.status = DONE if self.code == 0 else FAILED

    @property
    def output(self) -> str:
        """Return both streams in the format of the API's lists."""
        errors = f"\n----------ERROR-------\n{self.err}" if self.err else ""
        return (self.out + errors)[:2500]


@dataclass
class Command:
    """A command sent to machines."""

    document: str
    parameters: Mapping[str, Sequence[str]]
    targets: Sequence[Mapping[str, Any]]
    invocations: tuple[Invocation, ...]
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    asked: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def status(self) -> str:
        states = [invocation.status for invocation in self.invocations]
        if FAILED in states and not {PENDING, RUNNING} & set(states):
            return FAILED
        return RUNNING if {PENDING, RUNNING} & set(states) else DONE

    def run(self, execute: Execute, script: str) -> None:
        """Run on one machine after another; cancel the rest after the first failure."""
        for invocation in self.invocations:
            if any(earlier.status == FAILED for earlier in self.invocations):
                invocation.status = "Cancelled"
            else:
                invocation.run(execute, script)

    def describe(self) -> dict[str, Any]:
        return {
            "CommandId": self.id,
            "DocumentName": self.document,
            "Parameters": self.parameters,
            "Targets": self.targets,
            "InstanceIds": [invocation.instance.id for invocation in self.invocations],
            "RequestedDateTime": self.asked,
            "Status": self.status,
            "StatusDetails": self.status if self.invocations else "NoInstancesInTag",
            "TargetCount": len(self.invocations),
            "CompletedCount": sum(invocation.code >= 0 for invocation in self.invocations),
            "ErrorCount": sum(invocation.status == FAILED for invocation in self.invocations),
        }

    def describe_invocations(self, instance: str | None) -> list[dict[str, Any]]:
        return [
            {
                "CommandId": self.id,
                "InstanceId": invocation.instance.id,
                "DocumentName": self.document,
                "RequestedDateTime": self.asked,
                "Status": invocation.status,
                "StatusDetails": invocation.status,
                "StandardOutputContent": invocation.out[:OUTPUT_BYTES],
                "StandardErrorContent": invocation.err[:OUTPUT_BYTES],
                "PluginName": PLUGIN,
                "ResponseCode": invocation.code,
                "CommandPlugins": [
                    {
                        "Name": PLUGIN,
                        "Status": invocation.status,
                        "StatusDetails": invocation.status,
                        "ResponseCode": invocation.code,
                        "Output": invocation.output,
                    }
                ],
            }
            for invocation in self.invocations
            if instance in (None, invocation.instance.id)
        ]


def patch(
    execute: Execute, instances: Callable[[], Iterable[Instance]], is_managed: Callable[..., bool]
) -> None:
    """Run sent commands. is_managed: returns True if a machine's agent can be reached."""
    sent: dict[str, Command] = {}

    def send(self: Responses) -> ActionResult:
        selected = targets(self, instances(), is_managed)
        name, parameters = self._get_param("DocumentName"), self._get_param("Parameters") or {}
        script = script_of(_content(self, name), parameters)
        invocations = tuple(Invocation(instance) for instance in selected)
        command = Command(name, parameters, self._get_param("Targets") or (), invocations)
        sent[command.id] = command
        threading.Thread(target=command.run, args=(execute, script), daemon=True).start()
        return ActionResult({"Command": command.describe()})

    def requested(self: Responses) -> list[Command]:
        wanted = self._get_param("CommandId")
        if wanted and wanted not in sent:
            raise _refusal("InvalidCommandId", "")
        return [sent[wanted]] if wanted else list(sent.values())

    def list_commands(self: Responses) -> ActionResult:
        return ActionResult({"Commands": [command.describe() for command in requested(self)]})

    def list_invocations(self: Responses) -> ActionResult:
        id = self._get_param("InstanceId")
        invocations = [
            invocation
            for command in requested(self)
            for invocation in command.describe_invocations(id)
        ]
        return ActionResult({"CommandInvocations": invocations})

    def get_invocation(self: Responses) -> ActionResult:
        invocations = requested(self)[0].describe_invocations(self._get_param("InstanceId"))
        if not invocations:
            raise _refusal("InvocationDoesNotExist", "")
        return ActionResult(invocations[0])

    Responses.send_command, Responses.list_commands = send, list_commands
    Responses.list_command_invocations = list_invocations
    Responses.get_command_invocation = get_invocation


def targets(
    self: Responses, instances: Iterable[Instance], is_managed: Callable[[Instance], bool]
) -> list[Instance]:
    """Return the managed machines that a command targets; refuse an unmanaged instance id."""
    managed = [
        instance for instance in instances if instance.state == "running" and is_managed(instance)
    ]
    named = self._get_param("InstanceIds") or []
    if unknown := set(named) - {instance.id for instance in managed}:
        raise _refusal("InvalidInstanceId", f"Instances {sorted(unknown)} not in a valid state")
    return select(managed, named, self._get_param("Targets") or [])


def select(
    instances: Iterable[Instance], named: Sequence[str], filters: Sequence[Mapping[str, Any]]
) -> list[Instance]:
    """Return the instances with these ids, or those that match every filter."""
    if not filters:
        return [instance for instance in instances if instance.id in named]
    return [
        instance for instance in instances if all(_matches(instance, wanted) for wanted in filters)
    ]


def script_of(content: Mapping[str, Any], parameters: Mapping[str, Sequence[str]]) -> str:
    """Return a document's script with the parameters inserted; refuse values it does not allow."""
    declared = content.get("parameters", {})
    if unknown := set(parameters) - set(declared):
        raise _refusal("InvalidParameters", f"{sorted(unknown)} not in the document")
    values = {
        name: _value(name, declaration, parameters.get(name))
        for name, declaration in declared.items()
    }
    lines: list[str] = []
    for step in content["mainSteps"]:
        if step["action"] != PLUGIN:
            raise _refusal("InvalidDocumentContent", f"{step['action']} is not supported")
        for line in _lines(step["inputs"]["runCommand"], values):
            lines.append(_PLACEHOLDER.sub(lambda match: "\n".join(values[match[1]]), line))
    return "\n".join(lines)


def _lines(command: Any, values: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """Return a step's lines; a single parameter may replace all of them."""
    if isinstance(command, str):
        placeholder = _PLACEHOLDER.fullmatch(command)
        return values[placeholder[1]] if placeholder else [command]
    return command


def _value(name: str, declaration: Mapping[str, Any], given: Sequence[str] | None) -> Sequence[str]:
    if given is None and "default" not in declaration:
        raise _refusal("InvalidParameters", f"{name} is missing")
    default = declaration.get("default", "")
    values = given if given is not None else default if isinstance(default, list) else [default]
    pattern, allowed = declaration.get("allowedPattern"), declaration.get("allowedValues")
    for value in values:
        if (pattern and not re.search(pattern, value)) or (allowed and value not in allowed):
            raise _refusal("InvalidParameters", f"{name} is not allowed by the document")
    return values


def _content(self: Responses, name: str) -> Mapping[str, Any]:
    if name == SHELL_SCRIPT:
        steps = [{"action": PLUGIN, "inputs": {"runCommand": "{{ commands }}"}}]
        optional = {"workingDirectory": {"default": ""}, "executionTimeout": {"default": "3600"}}
        return {"parameters": {"commands": {}, **optional}, "mainSteps": steps}
    content = self.ssm_backend.get_document(name, "", "", "JSON")["Content"]
    return json.loads(content) if isinstance(content, str) else content


def _matches(instance: Instance, wanted: Mapping[str, Any]) -> bool:
    key = wanted["Key"]
    if key == "InstanceIds":
        return instance.id in wanted["Values"]
    tags = {tag["key"]: tag["value"] for tag in instance.get_tags()}
    return key.startswith("tag:") and tags.get(key[4:]) in wanted["Values"]


def _refusal(kind: str, message: str) -> JsonRESTError:
    return JsonRESTError(kind, message)
