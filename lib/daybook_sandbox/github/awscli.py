"""`aws SERVICE OPERATION --name value`: the AWS CLI of GitHub's image, in boto3's words.

Standard options are --output (json, text), --query and --region; ecr get-login-password is the one
command that is no operation of the API.
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
    """A command line that the stand-in does not understand."""


def main(given: Sequence[str]) -> int:
    """Run one command and return the CLI's exit code."""
    try:
        service, operation, options = _read(given)
        answer = _call(service, operation, options)
    except UsageError as error:
        print(f"aws: {error}", file=sys.stderr)
        return USAGE
    except (BotoCoreError, ClientError) as error:
        print(f"\n{error}", file=sys.stderr)
        return FAILED
    text = _shown(answer, options)
    print(text, end="\n" if text else "")
    return 0


def _read(given: Sequence[str]) -> tuple[str, str, dict[str, list[str]]]:
    words, options, name = [], {}, ""
    for word in given:
        if word.startswith("--"):
            name, _, value = word[2:].partition("=")
            options[name] = [value] if value else []
        elif name:
            options[name].append(word)
        else:
            words.append(word)
    if len(words) != 2:
        raise UsageError("this stand-in takes a service, an operation and --options")
    return words[0], words[1], options


def _call(service: str, operation: str, options: dict[str, list[str]]) -> Any:
    region = (options.get("region") or [None])[0]
    client = boto3.client(service, region_name=region)
    if (service, operation) == ("ecr", "get-login-password"):
        found = client.get_authorization_token()["authorizationData"][0]["authorizationToken"]
        return base64.b64decode(found).decode().partition(":")[2]
    method = xform_name(operation.replace("-", "_"))
    names = {xform_name(api): api for api in client.meta.service_model.operation_names}
    if method not in names:
        raise UsageError(f"{service} has no {operation}")
    shape = client.meta.service_model.operation_model(names[method]).input_shape
    members = {xform_name(key, "-"): (key, each) for key, each in shape.members.items()}
    asked = {}
    for name, words in options.items():
        if name in GLOBAL or name == "no-cli-pager":
            continue
        if name not in members:
            raise UsageError(f"{service} {operation} has no --{name}")
        key, member = members[name]
        asked[key] = _value(member, words)
    answer = getattr(client, method)(**asked)
    answer.pop("ResponseMetadata", None)
    return answer


def _value(shape: Any, words: list[str]) -> Any:
    """Read an option as the CLI does: plain, a list, JSON, or key=value,key=value."""
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
    """Read Key=a,Values=b,c."""
    found: dict[str, list[str]] = {}
    key = ""
    for part in text.split(","):
        name, sign, value = part.partition("=")
        if sign and name in shape.members:
            key = name
            found[key] = [value]
        else:
            found[key].append(part)
    return {key: _value(shape.members[key], words) for key, words in found.items()}


def _shown(answer: Any, options: dict[str, list[str]]) -> str:
    if isinstance(answer, str):
        return answer
    if query := options.get("query"):
        answer = jmespath.search(query[0], answer)
    if (options.get("output") or ["json"])[0] == "text":
        return _plain(answer)
    return json.dumps(answer, indent=4, default=str)


def _plain(answer: Any) -> str:
    if isinstance(answer, list):
        between = "\n" if any(isinstance(each, (list, dict)) for each in answer) else "\t"
        return between.join(map(_plain, answer))
    if isinstance(answer, dict):
        return "\t".join(map(_plain, answer.values()))
    return "None" if answer is None else str(answer)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
