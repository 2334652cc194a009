"""The model of an environment's settings: the only validator of environments/<env>.yml."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from daybook.bounded_yaml import Key
from daybook.settings import types

REHEARSAL_MARK = "--"
"""GitHub owner names cannot contain it: such a repository is for rehearsals only."""


class Conflict(ValueError):
    """Settings contradict each other. problems: the text for each key."""

    def __init__(self, problems: dict[Key, str]) -> None:
        super().__init__("; ".join(problems.values()))
        self.problems = problems


class _Model(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True
    )


class InstanceSettings(_Model):
    """The environment's EC2 instances."""

    type: types.InstanceType = "t3.small"
    """EC2 instance type."""
    disk_gib: Annotated[int, types.whole(8, 16384)] = 20
    """Size of the encrypted gp3 root volume in GiB, 8 to 16384."""
    ami: types.ImageId = ""
    """Pinned image id, such as ami-0123456789abcdef0. Empty: the newest Debian 13 at the first
    provision, kept from then on."""
    count: Annotated[int, types.whole(1, 9)] = 1
    """Number of hosts, 1 to 9, spread over two availability zones."""


class GitHub(_Model):
    """The GitHub repositories with access to the account and to this environment."""

    repository: types.Repository = ""
    """Repository of the infrastructure, `owner/name` or `owner@id/name@id`; the same in every
    environment of the account. Jobs in its GitHub environments may run Daybook."""
    application: types.Repository = ""
    """Repository of the application, if it is a different one; the same in every environment."""
    branch: types.Branch = "main"
    """Branch of the application that may push images and that is released to this environment."""
    labels: tuple[types.Label, ...] = Field(default=(), max_length=types.MAX_LABELS)
    """Labels of the runner on the host. Empty: the name of the environment."""

    @property
    def releases(self) -> str:
        """Return the repository that triggers releases, as GitHub's tokens name it."""
        return self.application or self.repository

    @property
    def path(self) -> str:
        """Return that repository without ids: `owner/name`."""
        return re.sub(r"@[0-9]+", "", self.releases)

    @property
    def own_path(self) -> str:
        """Return the infrastructure's repository without ids: `owner/name`."""
        return re.sub(r"@[0-9]+", "", self.repository)


class Freeze(_Model):
    """A period without changes."""

    since: types.Moment
    """Start, with its UTC offset: 2026-12-20T00:00:00Z."""
    until: types.Moment
    """End, with its UTC offset."""
    reason: types.Reason
    """Reason, shown to anyone who tries to make a change."""

    @model_validator(mode="after")
    def _ends_after_its_start(self) -> Freeze:
        if self.until <= self.since:
            since = self.since.isoformat()
            raise Conflict({("until",): f"expected a time after `since`, {since}"})
        return self


class Settings(_Model):
    """The settings of one environment. environments/example.yml is generated from this model."""

    app: Annotated[types.AppName, Field(examples=["hello"])]
    """Short name of the application, 2 to 25 characters; the prefix of every name in AWS."""
    account: Annotated[types.Account, Field(examples=["sandbox"])]
    """Target: `sandbox`, or a 12-digit AWS account id in quotes."""
    region: types.Region = "us-east-1"
    """AWS region."""
    dns_zone: Annotated[types.DnsName, Field(examples=["example.com"])]
    """DNS zone in Route 53, created by bootstrap."""
    domains: Annotated[types.Domains, Field(examples=[["staging.example.com"]])]
    """DNS names of the application, 1 to 20, all in the zone; the first is the main URL."""
    vpc_cidr: Annotated[types.Cidr, Field(examples=["10.20.0.0/16"])]
    """Private network of the VPC, /16 to /20; it must not overlap another environment's."""
    ssh_allowed_cidrs: Annotated[types.SshCidrs, Field(examples=[["203.0.113.7/32"]])]
    """IPv4 ranges that may use SSH, at most 58. In the sandbox, your address is 203.0.113.7/32."""
    instance: InstanceSettings = InstanceSettings()
    """The environment's EC2 instances."""
    ssh_key: types.KeyFile = Path("~/.ssh/id_ed25519")
    """Your private SSH key, with the public key beside it. DAYBOOK_SSH_KEY overrides it."""
    port: types.Port = 8000
    """Loopback port of the application on the host; releases alternate between it and the next."""
    secrets: dict[types.SecretName, types.Purpose] = Field(
        default={},
        max_length=types.MAX_SECRETS,
        examples=[{"DATABASE_URL": "connection to the database"}],
    )
    """Secrets of the application, at most 100: names and purposes. Set the values with
    `daybook secrets set`."""
    approvals: Annotated[int, types.whole(0, 1)] = 0
    """Number of people besides the operator who approve each plan, 0 or 1. On an AWS account, 1
    requires `require_git: pushed`."""
    plan_hours: Annotated[int, types.whole(1, 168)] = 24
    """How long a plan may be pending, in hours, 1 to 168."""
    require_git: Literal["any", "clean", "pushed"] = "any"
    """State of the checkout that a change requires. any: no requirement; clean: a commit without
    local changes; pushed: a commit of the reviewed repository's default branch."""
    git_remote: types.GitRemote = ""
    """URL of the reviewed repository. Empty: github.repository on github.com. Bootstrap stores it
    in the account, and only the stored value counts."""
    freezes: tuple[Freeze, ...] = Field(
        default=(),
        max_length=types.MAX_FREEZES,
        examples=[
            [
                {
                    "since": "2026-12-20T00:00:00Z",
                    "until": "2027-01-04T00:00:00Z",
                    "reason": "holidays",
                }
            ]
        ],
    )
    """Periods without changes, at most 50."""
    deletion_protection: bool = False
    """Protect instances from termination through the API; teardown then needs `allow_teardown`."""
    allow_teardown: bool = False
    """Allow the teardown of a protected environment. Commit it, tear down, then revert it."""
    snapshot_days: Annotated[int, types.whole(0, 365)] = 0
    """Retention of daily snapshots of each disk, in days, 0 to 365; 0 for none."""
    alarm_email: types.Email = ""
    """E-mail address for alarms about the hosts; empty for none."""
    flow_log_days: types.LogDays = 0
    """Retention of the VPC's flow logs, in days; 0 for none."""
    github: GitHub = GitHub()
    """GitHub repositories: their workflows get a role in the account and release here."""
    deploy_via: Literal["runner", "ssm", "none"] = "none"
    """How a push is released: by a runner on the host, by Systems Manager, or not at all."""

    @model_validator(mode="after")
    def _are_consistent(self) -> Settings:
        if problems := dict(self._conflicts()):
            raise Conflict(problems)
        return self

    def _conflicts(self) -> Iterator[tuple[Key, str]]:
        """Yield each key that conflicts with another, and the reason."""
        for index, name in enumerate(self.domains):
            if name != self.dns_zone and not name.endswith(f".{self.dns_zone}"):
                expected = f"expected {self.dns_zone} or a name that ends with .{self.dns_zone}"
                yield ("domains", index), f"{expected}, got {types.shown(name)}"
        if self.deploy_via != "none" and not self.github.repository:
            yield (
                ("deploy_via",),
                f"{self.deploy_via} requires github.repository; otherwise set none",
            )
        if self.deploy_via == "runner" and self.instance.count > 1:
            yield ("deploy_via",), "runner supports one host; for several, set ssm or none"
        for key in ("repository", "application"):
            if self.account != "sandbox" and REHEARSAL_MARK in getattr(self.github, key):
                expected = "expected your repository, or no github and deploy_via: none"
                yield ("github", key), f"{expected}; this one is for rehearsals only"
        if self.account != "sandbox" and self.approvals and self.require_git != "pushed":
            reason = "without it, an edited checkout could lower this value"
            problem = f"{self.approvals} on an AWS account requires require_git: pushed; {reason}"
            yield ("approvals",), problem
