"""The values of secrets, from SSM Parameter Store with the instance's role."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from daybook_release.errors import Refused
from daybook_release.host import Host

AT_ONCE = 10
"""https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParameters.html"""


def command(region: str, names: Sequence[str]) -> list[str]:
    """Return the command that fetches values; they are on its standard output alone."""
    wanted = ["aws", "ssm", "get-parameters", "--with-decryption", "--output", "json"]
    return [*wanted, "--region", region, "--names", *names]


def fetch(
    host: Host, region: str, prefix: str, wanted: Mapping[str, int | None]
) -> tuple[dict[str, str], dict[str, int]]:
    """Return values and versions; a version of None takes the newest."""
    values: dict[str, str] = {}
    versions: dict[str, int] = {}
    names = [f"{prefix}{n}" + (f":{wanted[n]}" if wanted[n] else "") for n in sorted(wanted)]
    for first in range(0, len(names), AT_ONCE):
        done = host.run(
            command(region, names[first : first + AT_ONCE]),
            asks_aws=True,
            timeout_s=60,
            is_whole=True,
        )
        if not done.is_good:
            raise Refused(
                f"The secrets cannot be read: {done.last_words}",
                next="look whether the host's role may read them: daybook run drift",
            )
        answer = json.loads(done.out)
        if missing := [name.removeprefix(prefix) for name in answer["InvalidParameters"]]:
            raise Refused(
                f"No value is set for {', '.join(missing)}.",
                next=f"daybook secrets set {missing[0].partition(':')[0]}",
            )
        for each in answer["Parameters"]:
            name = each["Name"].removeprefix(prefix)
            values[name], versions[name] = each["Value"], each["Version"]
    return values, versions
