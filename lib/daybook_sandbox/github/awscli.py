"""`aws SERVICE OPERATION --name value`: a subset of the AWS CLI on GitHub's images, using boto3.

Global options are --output (json, text), --query and --region. The only command that is not an
API operation is ecr get-login-password.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Sequence
from typing import Any

import boto3
import jmespath
from botocore import xform_name
from botocore.exceptions import BotoCoreError, ClientError

FAILED, USAGE = 254, 252
GLOBAL = ("output", "query", "region")


class UsageError(Exception):
    """An unsupported command line."""


def main(arguments: Sequence[str]) -> int:
    """Run one command and return the CLI's exit code."""
    try:
        service, operation, options = _parse(arguments)
        output = _call(service, operation, options)
    except UsageError as error:
        print(f"aws: {error}", file=sys.stderr)
        return USAGE
    except (BotoCoreError, ClientError) as error:
        print(f"\n{error}", file=sys.stderr)
        return FAILED
    text = _format(output, options)
    print(text, end="\n" if text else "")
    return 0


def _parse(arguments: Sequence[str]) -> tuple[str, str, dict[str, list[str]]]:
    words, options, name = [], {}, ""
    for word in arguments:
        if word.startswith("--"):
            name, _, value = word[2:].partition("=")
            options[name] = [value] if value else []
        elif name:
            options[name].append(word)
        else:
            words.append(word)
    if len(words) != 2:
        raise UsageError("expected a service, an operation and --options")
    return words[0], words[1], options


def _call(service: str, operation: str, options: dict[str, list[str]]) -> Any:
    region = (options.get("region") or [None])[0]
    client = boto3.client(service, region_name=region)
    if (service, operation) == ("ecr", "get-login-password"):
        token = client.get_authorization_token()["authorizationData"][0]["authorizationToken"]
        return base64.b64decode(token).decode().partition(":")[2]
    method = xform_name(operation.replace("-", "_"))
    names = {xform_name(api): api for api in client.meta.service_model.operation_names}
    if method not in names:
        raise UsageError(f"{service} has no operation {operation}")
    shape = client.meta.service_model.operation_model(names[method]).input_shape
    members = {xform_name(key, "-"): (key, member) for key, member in shape.members.items()}
    parameters = {}
    for name, words in options.items():
        if name in GLOBAL or name == "no-cli-pager":
            continue
        if name not in members:
            raise UsageError(f"{service} {operation} has no option --{name}")
        key, member = members[name]
        parameters[key] = _value(member, words)
    answer = getattr(client, method)(**parameters)
    answer.pop("ResponseMetadata", None)
    return answer


def _value(shape: Any, words: list[str]) -> Any:
    """Parse an option like the CLI: plain, a list, JSON, or key=value,key=value."""
    first = words[0] if words else ""
    if first[:1] in ("{", "["):
        return json.loads(" ".join(words))
    match shape.type_name:
        case "list":
            return [_value(shape.member, [word]) for word in words]
        case "map":
            pairs = (pair.split("=", 1) for pair in " ".join(words).split(","))
            return {key: _value(shape.value, [value]) for key, value in pairs}
        case "structure":
            return _structure(shape, first)
        case "integer" | "long":
            return int(first)
        case "boolean":
            return first.lower() != "false"
    return first


def _structure(shape: Any, text: str) -> dict[str, Any]:
    """Parse Key=a,Values=b,c."""
    values: dict[str, list[str]] = {}
    key = ""
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if equals and name in shape.members:
            key = name
            values[key] = [value]
        else:
            values[key].append(part)
    return {key: _value(shape.members[key], words) for key, words in values.items()}


def _format(output: Any, options: dict[str, list[str]]) -> str:
    if isinstance(output, str):
        return output
    if query := options.get("query"):
        output = jmespath.search(query[0], output)
    if (options.get("output") or ["json"])[0] == "text":
        return _text(output)
    return json.dumps(output, indent=4, default=str)


def _text(output: Any) -> str:
    if isinstance(output, list):
        separator = "\n" if any(isinstance(item, (list, dict)) for item in output) else "\t"
        return separator.join(map(_text, output))
    if isinstance(output, dict):
        return "\t".join(map(_text, output.values()))
    return "None" if output is None else str(output)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
