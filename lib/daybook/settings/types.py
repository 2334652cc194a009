"""Types of single settings; each rejects an invalid value and names the valid choices.

Patterns are ASCII: AWS rejects the digits and letters of other scripts, which look the same.
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

MAX_DOMAINS = 20
"""Each needs one of the 50 certificates a week that Let's Encrypt issues for a registered domain:
https://letsencrypt.org/docs/rate-limits/"""
MAX_SSH_CIDRS = 58
"""AWS allows 60 inbound rules in a security group; two are for HTTP and HTTPS:
https://docs.aws.amazon.com/vpc/latest/userguide/amazon-vpc-limits.html"""
MAX_SECRETS = 100
"""A release reads ten per call, and passes at most 4 KiB of each in its environment."""
MAX_FREEZES = 50
MAX_LABELS = 10
TAKEN_PORTS = {2019: "Caddy's admin API", 17500: "db-lsp"}
LAST_PORT = 32766
"""The second slot uses the next port; Linux uses ports from 32768 up for outgoing connections."""
PRIVATE = tuple(map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))
DOCKER = IPv4Network("172.17.0.0/16")
"""The network of Docker's default bridge on every host."""
RESERVED_APPS = ("amazon", "amzn", "aws", "sg-", "ssm", "sthree-", "xn--")
"""Prefixes that AWS reserves in Parameter Store, Systems Manager, EC2 and S3."""
LOG_DAYS = (0, 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731)
"""Retention periods of log groups in days, up to two years; 0 for no logs.
https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html
"""
ENVIRONMENT = r"[a-z][a-z0-9]{1,19}"
EXAMPLE = "example"
"""environments/example.yml documents every key; it is not an environment."""
RESERVED_ENVIRONMENTS = frozenset(
    {"account", "all", "default", EXAMPLE, "github", "localhost", "ungrouped"}
)
"""Names of the example, the account's lock, Terraform's default workspace, the parameters for
GitHub's token, and Ansible's built-in groups."""

_SIDE = r"(north|south|east|west|central|northeast|northwest|southeast|southwest)"
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_TLD = r"([a-z]{2,63}|xn--[a-z0-9-]{0,58}[a-z0-9])"
_OWNER = r"[A-Za-z0-9]([A-Za-z0-9-]{0,37}[A-Za-z0-9])?"
_ID = r"(@[0-9]{1,20})?"
_REPOSITORY = rf"{_OWNER}{_ID}/(?!\.{{1,2}}(@|$))[A-Za-z0-9._-]{{1,100}}{_ID}"
_BAD_BRANCH = re.compile(r"^[-./]|\.\.|//|/\.|\.lock(/|$)|[./]$|^HEAD$")
"""https://git-scm.com/docs/git-check-ref-format; also excludes options of git."""
_PATH = r"(~/|/|\./)?[^\0-\x1f\x7f~-][^\0-\x1f]*"
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?"
    r" ?(Z|z|[+-][0-9]{2}:[0-9]{2})"
)


def shown(value: object) -> str:
    """Return a value as an error shows it: short, and in ASCII so that look-alikes are visible."""
    if value is None or isinstance(value, dict | list | tuple):
        return kind_of(value)
    if isinstance(value, bool):
        return str(value).lower()
    text = ascii(value)
    return text if len(text) <= 80 else f"text of {len(str(value)):,} characters"


def kind_of(value: object) -> str:
    """Return the kind of a value, for a place that may hold a secret."""
    kinds = {type(None): "nothing", bool: "true or false", dict: "a mapping", list: "a list"}
    number = "a number" if isinstance(value, int | float) else "text"
    return kinds.get(type(value), number)


def matching(pattern: str, expected: str, longest: int = 253) -> AfterValidator:
    """Require that a pattern matches the whole text."""
    compiled = re.compile(pattern, re.ASCII)

    def check(value: str) -> str:
        if len(value) > longest or not compiled.fullmatch(value):
            raise ValueError(f"expected {expected}, got {shown(value)}")
        return value

    return AfterValidator(check)


def _app(name: str) -> str:
    if name.startswith(RESERVED_APPS) or name == "sg":
        raise ValueError(f"expected a name without a prefix that AWS reserves, got {shown(name)}")
    return name


def _secret_name(name: str) -> str:
    """Reject an invalid name without repeating it: it may be a value, or `NAME=value`."""
    if problem := names.problem_of(name):
        raise ValueError(problem)
    return name


def _purpose(purpose: str) -> str:
    """Reject a secret's value in the place of its purpose, without repeating it."""
    if len(purpose.split()) < 2 or len(purpose) > 200 or "\n" in purpose:
        raise ValueError(
            "expected its purpose, in two words or more and at most 200 characters; "
            "do not put its value here"
        )
    return purpose


def _network(value: Any, expected: str, prefix_lengths: range) -> IPv4Network:
    """Return a range written as text with its first address and prefix length."""
    if isinstance(value, IPv4Network):
        return value
    network = _nearest_network(value) if isinstance(value, str) and len(value) <= 18 else None
    if network is None or network.prefixlen not in prefix_lengths or str(network) != value:
        is_misaligned = network and network.prefixlen in prefix_lengths and str(network) != value
        hint = f"; did you mean {network}?" if is_misaligned else ""
        raise ValueError(f"expected {expected}, got {shown(value)}{hint}")
    return network


def _nearest_network(text: str) -> IPv4Network | None:
    """Return the range that contains an address, or None."""
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
        raise ValueError(f"expected {expected}, got {network}, which Docker uses on every host")
    return network


def _ssh_cidr(value: Any) -> IPv4Network:
    expected = "an IPv4 range from /8 to /32 such as 203.0.113.7/32"
    network = _network(value, expected, range(8, 33))
    # Not `is_private`: an operator may connect through a VPN.
    first = network.network_address
    is_unroutable = (
        first.is_loopback or first.is_multicast or first.is_link_local or first.is_reserved
    )
    if is_unroutable or first in IPv4Network("0.0.0.0/8"):
        raise ValueError(
            f"expected {expected}, got {network}, which is not the address of any client"
        )
    return network


def _unique(values: tuple) -> tuple:
    """Reject a list with duplicates."""
    duplicates = [value for index, value in enumerate(values) if value in values[:index]]
    if duplicates:
        first = duplicates[0]
        text = str(first) if isinstance(first, IPv4Network) else shown(first)
        raise ValueError(f"expected unique values, got {text} twice")
    return values


def _not_empty(values: tuple) -> tuple:
    if not values:
        raise ValueError("expected at least one value")
    return values


def _branch(name: str) -> str:
    if _BAD_BRANCH.search(name):
        raise ValueError(f"expected a valid git branch such as main, got {shown(name)}")
    return name


def _moment(value: Any) -> datetime:
    """Return a date and time; pydantic would also accept seconds since 1970."""
    if isinstance(value, datetime):
        return value
    try:
        if not isinstance(value, str) or not _MOMENT.fullmatch(value):
            raise ValueError
        return datetime.fromisoformat(value.replace(" +", "+").replace(" -", "-").upper())
    except ValueError:
        raise ValueError(f"expected {MOMENT}, got {shown(value)}") from None


def whole(low: int, high: int) -> PlainValidator:
    """Accept a whole number from `low` to `high`, but no boolean."""

    def check(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"expected a whole number from {low} to {high}, got {shown(value)}")
        return value

    return PlainValidator(check)


def _port(port: int) -> int:
    for taken in {port, port + 1} & TAKEN_PORTS.keys():
        expected = "expected a free port with a free port above it for the second slot"
        raise ValueError(f"{expected}, got {port}: {taken} is used by {TAKEN_PORTS[taken]}")
    return port


def _log_days(days: int) -> int:
    if days not in LOG_DAYS:
        choices = f"{', '.join(map(str, LOG_DAYS[:-1]))} or {LOG_DAYS[-1]}"
        raise ValueError(f"expected {choices}, got {days}")
    return days


def _key_file(value: Any) -> Path:
    expected = "the path of a private key such as ~/.ssh/id_ed25519"
    text = str(value) if isinstance(value, Path) else value
    if not isinstance(text, str) or not re.fullmatch(_PATH, text):
        raise ValueError(f"expected {expected}, got {shown(text)}")
    path = os.path.expanduser(text)
    is_special = os.path.normpath(path).startswith(("/dev/", "/proc/", "/sys/"))
    if len(text) > 1000 or is_special or (os.path.exists(path) and not os.path.isfile(path)):
        raise ValueError(f"expected {expected}, got {shown(text)}, which is not a regular file")
    return Path(text)


MOMENT = "a time with its UTC offset such as 2026-12-20T00:00:00Z"

AppName = Annotated[
    str,
    matching(
        r"[a-z][a-z0-9-]{0,23}[a-z0-9]",
        "2 to 25 lower-case letters, digits and hyphens such as hello, with a letter first and "
        "no hyphen last",
    ),
    AfterValidator(_app),
]
Account = Annotated[
    str, matching(r"sandbox|[0-9]{12}", "sandbox or a 12-digit account id in quotes")
]
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
        "a DNS name in lower case, at most 63 characters per label and 253 in total",
    ),
]
Cidr = Annotated[IPv4Network, PlainValidator(_cidr)]
SshCidrs = Annotated[
    tuple[Annotated[IPv4Network, PlainValidator(_ssh_cidr)], ...],
    Field(max_length=MAX_SSH_CIDRS),
    AfterValidator(_unique),
]
Domains = Annotated[
    tuple[DnsName, ...],
    Field(max_length=MAX_DOMAINS),
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
Purpose = Annotated[str, AfterValidator(_purpose)]
Repository = Annotated[str, matching(rf"|{_REPOSITORY}", "a repository such as owner/name")]
Branch = Annotated[
    str,
    matching(r"[A-Za-z0-9._/-]{1,200}", "a branch such as main"),
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
Reason = Annotated[str, matching(r"[^\n]{1,200}", "a reason of 1 to 200 characters on one line")]
