"""What a single setting may be: each type refuses a value with the valid choice in its message.

Patterns are ASCII: the digits and letters of other scripts, which AWS refuses, look the same.
"""

from __future__ import annotations

import os
import re
from datetime import datetime
from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PlainValidator

from daybook_release import names

MAX_NAMES = 20
"""One certificate each, of the 50 a week that Let's Encrypt issues for a registered domain:
https://letsencrypt.org/docs/rate-limits/"""
MAX_OPERATORS = 58
"""AWS allows 60 inbound rules in a security group; two are for HTTP and HTTPS:
https://docs.aws.amazon.com/vpc/latest/userguide/amazon-vpc-limits.html"""
MAX_SECRETS = 100
"""A release reads ten in one call, and passes at most 4 KiB of each through its environment."""
MAX_FREEZES = 50
MAX_LABELS = 10
TAKEN_PORTS = {2019: "Caddy's admin API", 17500: "db-lsp"}
LAST_PORT = 32766
"""The second slot has the port above; Linux takes outgoing connections' ports from 32768 up."""
PRIVATE = tuple(map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))
DOCKER = IPv4Network("172.17.0.0/16")
"""Docker's own bridge on every host."""
RESERVED_APPS = ("amazon", "amzn", "aws", "sg-", "ssm", "sthree-", "xn--")
"""How names of AWS's own begin: in Parameter Store, Systems Manager, EC2 and S3."""
LOG_DAYS = (0, 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731)
"""https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html
, as far as it is sensible; 0 for none."""
ENVIRONMENT = r"[a-z][a-z0-9]{1,19}"
EXAMPLE = "example"
"""environments/example.yml documents every key, and is no environment."""
RESERVED_ENVIRONMENTS = frozenset(
    {"account", "all", "default", EXAMPLE, "github", "localhost", "ungrouped"}
)
"""Names of the example, the shared lock, Terraform's first workspace, the parameters of GitHub's
token and Ansible's own groups."""

_SIDE = r"(north|south|east|west|central|northeast|northwest|southeast|southwest)"
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_TLD = r"([a-z]{2,63}|xn--[a-z0-9-]{0,58}[a-z0-9])"
_OWNER = r"[A-Za-z0-9]([A-Za-z0-9-]{0,37}[A-Za-z0-9])?"
_ID = r"(@[0-9]{1,20})?"
_REPOSITORY = rf"{_OWNER}{_ID}/(?!\.{{1,2}}(@|$))[A-Za-z0-9._-]{{1,100}}{_ID}"
_BAD_BRANCH = re.compile(r"^[-./]|\.\.|//|/\.|\.lock(/|$)|[./]$|^HEAD$")
"""https://git-scm.com/docs/git-check-ref-format, and no option of git's."""
_PATH = r"(~/|/|\./)?[^\0-\x1f\x7f~-][^\0-\x1f]*"
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?"
    r" ?(Z|z|[+-][0-9]{2}:[0-9]{2})"
)


def shown(value: object) -> str:
    """Return a value as an error may show it: short, and in ASCII, which look-alikes are not."""
    if value is None or isinstance(value, dict | list | tuple):
        return kind_of(value)
    if isinstance(value, bool):
        return str(value).lower()
    text = ascii(value)
    return text if len(text) <= 80 else f"text of {len(str(value)):,} characters"


def kind_of(value: object) -> str:
    """Return what a value is, for where it may be a secret."""
    kinds = {type(None): "nothing", bool: "true or false", dict: "a mapping", list: "a list"}
    number = "a number" if isinstance(value, int | float) else "text"
    return kinds.get(type(value), number)


def matching(pattern: str, expected: str, longest: int = 253) -> AfterValidator:
    """Hold a text to a pattern; the whole of it counts."""
    compiled = re.compile(pattern, re.ASCII)

    def check(value: str) -> str:
        if len(value) > longest or not compiled.fullmatch(value):
            raise ValueError(f"expected {expected}, got {shown(value)}")
        return value

    return AfterValidator(check)


def _app(name: str) -> str:
    if name.startswith(RESERVED_APPS) or name == "sg":
        raise ValueError(f"expected a name that does not begin as AWS's own do, got {shown(name)}")
    return name


def _secret_name(name: str) -> str:
    """Refuse a name without repeating it: it may be a value, or `NAME=value`."""
    if problem := names.problem_of(name):
        raise ValueError(problem)
    return name


def _in_words(purpose: str) -> str:
    """Refuse a value that was put where its purpose belongs, without repeating it."""
    if len(purpose.split()) < 2 or len(purpose) > 200 or "\n" in purpose:
        raise ValueError(
            "expected what it is for, in two words or more and at most 200 characters; "
            "its value does not belong here"
        )
    return purpose


def _network(value: Any, expected: str, widths: range) -> IPv4Network:
    """Return a range that is written as text, by its first address and with its length."""
    if isinstance(value, IPv4Network):
        return value
    near = _nearest_network(value) if isinstance(value, str) and len(value) <= 18 else None
    if near is None or near.prefixlen not in widths or str(near) != value:
        is_close = near and near.prefixlen in widths and str(near) != value
        hint = f"; did you mean {near}?" if is_close else ""
        raise ValueError(f"expected {expected}, got {shown(value)}{hint}")
    return near


def _nearest_network(text: str) -> IPv4Network | None:
    """Return the range around an address."""
    try:
        return IPv4Network(text, strict=False)
    except ValueError:
        return None


def _cidr(value: Any) -> IPv4Network:
    expected = "a private range from /16 to /20 such as 10.20.0.0/16"
    network = _network(value, expected, range(16, 21))
    if not any(map(network.subnet_of, PRIVATE)):
        raise ValueError(f"expected {expected}, got {network}")
    if network.overlaps(DOCKER):
        raise ValueError(f"expected {expected}, got {network}, which is Docker's own on every host")
    return network


def _operator(value: Any) -> IPv4Network:
    expected = "an IPv4 range from /8 to /32 such as 203.0.113.7/32"
    network = _network(value, expected, range(8, 33))
    # Not `is_private`: an operator may come through a VPN.
    first = network.network_address
    is_nowhere = first.is_loopback or first.is_multicast or first.is_link_local or first.is_reserved
    if is_nowhere or first in IPv4Network("0.0.0.0/8"):
        raise ValueError(f"expected {expected}, got {network}, from which nobody can connect")
    return network


def _unique(values: tuple) -> tuple:
    """Refuse a list with a value that is in it twice."""
    twice = [value for index, value in enumerate(values) if value in values[:index]]
    if twice:
        text = str(twice[0]) if isinstance(twice[0], IPv4Network) else shown(twice[0])
        raise ValueError(f"expected each once, got {text} twice")
    return values


def _not_empty(values: tuple) -> tuple:
    if not values:
        raise ValueError("expected at least one")
    return values


def _branch(name: str) -> str:
    if _BAD_BRANCH.search(name):
        raise ValueError(f"expected a branch that git allows, such as main, got {shown(name)}")
    return name


def _moment(value: Any) -> datetime:
    """Return a moment; pydantic alone would take seconds since 1970 for one, too."""
    if isinstance(value, datetime):
        return value
    try:
        if not isinstance(value, str) or not _MOMENT.fullmatch(value):
            raise ValueError
        return datetime.fromisoformat(value.replace(" +", "+").replace(" -", "-").upper())
    except ValueError:
        raise ValueError(f"expected {MOMENT}, got {shown(value)}") from None


def whole(low: int, high: int) -> PlainValidator:
    """Take a whole number from `low` to `high`, and no truth value for one."""

    def check(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"expected a whole number from {low} to {high}, got {shown(value)}")
        return value

    return PlainValidator(check)


def _port(port: int) -> int:
    for taken in {port, port + 1} & TAKEN_PORTS.keys():
        fix = "expected a port that is free together with the one above it, the second slot's"
        raise ValueError(f"{fix}, got {port}: {taken} is {TAKEN_PORTS[taken]}")
    return port


def _log_days(days: int) -> int:
    if days not in LOG_DAYS:
        raise ValueError(f"expected {', '.join(map(str, LOG_DAYS[:-1]))} or {LOG_DAYS[-1]}")
    return days


def _key_file(value: Any) -> Path:
    expected = "the path of a private key such as ~/.ssh/id_ed25519"
    text = str(value) if isinstance(value, Path) else value
    if not isinstance(text, str) or not re.fullmatch(_PATH, text):
        raise ValueError(f"expected {expected}, got {shown(text)}")
    path = os.path.expanduser(text)
    is_odd = os.path.normpath(path).startswith(("/dev/", "/proc/", "/sys/"))
    if len(text) > 1000 or is_odd or (os.path.exists(path) and not os.path.isfile(path)):
        raise ValueError(f"expected {expected}, got {shown(text)}, which is not a regular file")
    return Path(text)


MOMENT = "a moment with its offset such as 2026-12-20T00:00:00Z"

AppName = Annotated[
    str,
    matching(
        r"[a-z][a-z0-9-]{0,23}[a-z0-9]",
        "2 to 25 lower-case letters, digits and hyphens, a letter first, such as hello",
    ),
    AfterValidator(_app),
]
Account = Annotated[str, matching(r"sandbox|[0-9]{12}", "sandbox or a 12-digit id in quotes")]
Region = Annotated[
    str,
    matching(
        rf"(us|us-gov|eu|ap|sa|ca|me|af|il|mx|cn)-{_SIDE}-[1-9]", "an AWS region such as us-east-1"
    ),
]
DnsName = Annotated[
    str,
    matching(
        rf"({_LABEL}\.)+{_TLD}",
        "a DNS name in lower case, at most 63 characters between dots and 253 in all",
    ),
]
Cidr = Annotated[IPv4Network, PlainValidator(_cidr)]
Operators = Annotated[
    tuple[Annotated[IPv4Network, PlainValidator(_operator)], ...],
    Field(max_length=MAX_OPERATORS),
    AfterValidator(_unique),
]
Names = Annotated[
    tuple[DnsName, ...],
    Field(max_length=MAX_NAMES),
    AfterValidator(_unique),
    AfterValidator(_not_empty),
]
InstanceType = Annotated[
    str,
    matching(r"[a-z][a-z0-9-]{0,30}\.[a-z0-9-]{1,30}", "an EC2 instance type such as t3.small", 40),
]
ImageId = Annotated[
    str, matching(r"|ami-[0-9a-f]{8,17}", "an image id such as ami-0123456789abcdef0, or empty")
]
Port = Annotated[int, whole(1024, LAST_PORT), AfterValidator(_port)]
LogDays = Annotated[int, whole(0, LOG_DAYS[-1]), AfterValidator(_log_days)]
KeyFile = Annotated[Path, PlainValidator(_key_file)]
SecretName = Annotated[str, AfterValidator(_secret_name)]
Purpose = Annotated[str, AfterValidator(_in_words)]
Repository = Annotated[str, matching(rf"|{_REPOSITORY}", "a repository such as owner/name")]
Branch = Annotated[
    str,
    matching(r"[A-Za-z0-9._/-]{1,200}", "one branch such as main"),
    AfterValidator(_branch),
]
GitRemote = Annotated[
    str,
    matching(
        r"|(https?|ssh|file)://[A-Za-z0-9/][\w.@:/~-]*",
        "the URL of a git repository such as https://github.com/owner/name or "
        "ssh://git@github.com/owner/name, or empty",
        300,
    ),
]
Label = Annotated[str, matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "a label such as staging")]
Email = Annotated[
    str,
    matching(
        r"|[A-Za-z0-9._%+'-]{1,64}@([A-Za-z0-9-]{1,63}\.)+[A-Za-z0-9-]{2,63}",
        "an e-mail address such as ops@example.com, or empty",
    ),
]
Moment = Annotated[datetime, PlainValidator(_moment)]
Reason = Annotated[str, matching(r"[^\n]{1,200}", "a reason of 1 to 200 characters in one line")]
