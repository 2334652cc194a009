"""The values of secrets, read from SSM Parameter Store with the instance's role."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from daybook_release.errors import Refused
from daybook_release.system import System

BATCH = 10
"""https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParameters.html"""


def command(region: str, names: Sequence[str]) -> list[str]:
    """Return the command that fetches values; it prints them on its standard output only."""
    call = ["aws", "ssm", "get-parameters", "--with-decryption", "--output", "json"]
    return [*call, "--region", region, "--names", *names]


def fetch(
    system: System, region: str, prefix: str, pinned_versions: Mapping[str, int | None]
) -> tuple[dict[str, str], dict[str, int]]:
    """Return values and versions of secrets; a pinned version of None means the newest."""
    values: dict[str, str] = {}
    versions: dict[str, int] = {}
    names = [
        f"{prefix}{name}:{version}" if version else f"{prefix}{name}"
        for name, version in sorted(pinned_versions.items())
    ]
    for first in range(0, len(names), BATCH):
        result = system.run(
            command(region, names[first : first + BATCH]),
            with_aws_env=True,
            timeout_s=60,
            whole_output=True,
        )
        if not result.is_success:
            raise Refused(
                f"Cannot read the secrets: {result.output_tail}",
                next="check that the host's role may read them: daybook run drift",
            )
        response = json.loads(result.out)
        if missing := [name.removeprefix(prefix) for name in response["InvalidParameters"]]:
            raise Refused(
                f"No value is set for {', '.join(missing)}.",
                next=f"daybook secrets set {missing[0].partition(':')[0]}",
            )
        for parameter in response["Parameters"]:
            name = parameter["Name"].removeprefix(prefix)
            values[name], versions[name] = parameter["Value"], parameter["Version"]
    return values, versions
