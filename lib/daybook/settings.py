"""An environment's settings, `environments/<env>.yml`, checked as a whole before a start."""

from __future__ import annotations

import difflib
import os
import re
from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from daybook.errors import SettingsError
from daybook_release import names

NOTEBOOKS = ("notebooks", "runbooks")
"""Where the steps' notebooks are."""


def _matching(pattern: str, says: str) -> AfterValidator:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"{value!r} is not {says}")
        return value

    return AfterValidator(check)


AppName = Annotated[str, _matching(r"[a-z][a-z0-9-]{0,24}", "a short name such as hello")]
Account = Annotated[
    str, _matching(r"sandbox|\d{12}", "sandbox or a 12-digit AWS account id (in quotes)")
]
Region = Annotated[str, _matching(r"[a-z]{2}(-[a-z]+)+-\d", "an AWS region such as us-east-1")]
DnsName = Annotated[
    str,
    _matching(r"([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}", "a DNS name in lower case"),
]
ImageId = Annotated[str, _matching(r"|ami-[0-9a-f]+", "an image id such as ami-0abc, or empty")]


def _free_for_secrets(name: str) -> str:
    if problem := names.problem_of(name):
        raise ValueError(problem)
    return name


def _in_words(purpose: str) -> str:
    """Refuse a value that was put where its purpose belongs, without repeating it."""
    if len(purpose.split()) < 2:
        raise ValueError("say in two words or more what it is for; its value does not belong here")
    return purpose


SecretName = Annotated[str, AfterValidator(_free_for_secrets)]
Purpose = Annotated[str, AfterValidator(_in_words)]

Repository = Annotated[
    str,
    _matching(r"|[A-Za-z0-9-]+(@\d+)?/[A-Za-z0-9._-]+(@\d+)?", "a repository such as owner/name"),
]
Branch = Annotated[str, _matching(r"[A-Za-z0-9._/-]+", "one branch such as main")]
NOBODY = "--"
"""No owner on GitHub has it in his name: such a repository is for rehearsals alone."""
Label = Annotated[str, _matching(r"[A-Za-z0-9][A-Za-z0-9._-]*", "a label such as staging")]
Email = Annotated[str, _matching(r"|[^@\s]+@[^@\s]+\.[^@\s]+", "an e-mail address, or empty")]


class _Model(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True
    )


class Instance(_Model):
    """The environment's EC2 instance."""

    type: str = "t3.small"
    """EC2 instance type."""
    disk_gib: int = Field(default=20, ge=8, le=16384)
    """Size of the encrypted gp3 root volume, GiB."""
    ami: ImageId = ""
    """Pinned image id; empty takes the newest Debian 13 at the first provision and keeps it."""
    count: int = Field(default=1, ge=1, le=9)
    """How many hosts, spread over two zones."""


class GitHub(_Model):
    """Whose workflows get a role in the account, and which of them release here."""

    repository: Repository = ""
    """`owner/name`, or `owner@id/name@id` where GitHub says so; empty for nobody. A job of an
    environment of its may run Daybook. The same in every environment of the account."""
    application: Repository = ""
    """The application's own repository, where it has one; the same in every environment, too."""
    branch: Branch = "main"
    """The application's branch that may push images, and is released here."""
    labels: tuple[Label, ...] = ()
    """What a job asks for to get the runner of this environment; its name, unless given."""

    @property
    def releases(self) -> str:
        """Return the repository whose pushes are released, as GitHub's tokens name it."""
        return self.application or self.repository

    @property
    def path(self) -> str:
        """Return that repository as its address has it: `owner/name`."""
        return re.sub(r"@\d+", "", self.releases)

    @property
    def own_path(self) -> str:
        """Return the infrastructure's own repository as its address has it: `owner/name`."""
        return re.sub(r"@\d+", "", self.repository)


class Freeze(_Model):
    """A window in which nothing is changed."""

    since: AwareDatetime
    """First moment, with its offset: 2026-12-20T00:00:00Z."""
    until: AwareDatetime
    """First moment after it."""
    reason: str = Field(min_length=1)
    """What an operator is told."""


class Settings(_Model):
    """What one environment is; every key is explained here and commented in the YAML files."""

    app: AppName
    """Short name of the application; every AWS name begins with it."""
    account: Account
    """`sandbox`, or the 12-digit AWS account id that the caller must be in."""
    region: Region = "us-east-1"
    """AWS region."""
    zone: DnsName
    """DNS zone in Route53 that bootstrap makes."""
    names: tuple[DnsName, ...] = Field(min_length=1)
    """DNS names of the application, the first being the one to show."""
    cidr: IPv4Network
    """Private network of the VPC; each environment has its own."""
    operators: tuple[IPv4Network, ...]
    """Addresses that may use SSH."""
    instance: Instance = Instance()
    """The machine: its type, its disk, its image."""
    ssh_key: Path = Path("~/.ssh/id_ed25519")
    """Private key of the operator (its public half lies beside it); DAYBOOK_SSH_KEY wins."""
    port: int = Field(default=8000, ge=1024, le=65535)
    """Loopback port of the application on the host."""
    secrets: dict[SecretName, Purpose] = {}
    """Names of the application's secrets, and what each is for; values: daybook secrets set."""
    approvals: Literal[0, 1] = 0
    """How many people besides the operator must approve a plan."""
    plan_hours: int = Field(default=24, ge=1, le=168)
    """How long a plan may wait for approval, hours."""
    git: Literal["any", "clean", "pushed"] = "any"
    """What the checkout must be before a change: anything, clean (a commit, byte for byte), or
    pushed (a commit of the reviewed repository's default branch, as its server says now)."""
    git_remote: str = Field(default="", max_length=300)
    """URL of the reviewed repository; github.repository on github.com unless set. Bootstrap
    notes it in the account, and only what is noted there counts."""
    freezes: tuple[Freeze, ...] = ()
    """When nothing is changed."""
    protected: bool = False
    """Instances have API termination protection, and teardown needs `allow_teardown`."""
    allow_teardown: bool = False
    """Committed for a teardown of a protected environment, and taken out again after it."""
    snapshot_days: int = Field(default=0, ge=0, le=365)
    """How long a daily snapshot of each disk is kept, days; 0 for none."""
    alarm_email: Email = ""
    """Where alarms about the hosts go; empty for none."""
    flow_log_days: int = Field(default=0, ge=0, le=731)
    """How long the VPC's flow logs are kept, days; 0 for none."""
    github: GitHub = GitHub()
    """Whose workflows on GitHub may push images, release here, and run Daybook."""
    deploy_via: Literal["runner", "ssm", "none"] = "none"
    """How a push is released: by a runner on the host, by Systems Manager, or by nobody."""

    @model_validator(mode="after")
    def _can_be_deployed_to(self) -> Settings:
        if self.deploy_via != "none" and not self.github.repository:
            raise ValueError(f"deploy_via: {self.deploy_via} needs github.repository")
        named = (self.github.repository, self.github.application)
        if self.account != "sandbox" and NOBODY in "".join(named):
            raise ValueError("github: write your own repositories, or take it and deploy_via out")
        if self.deploy_via == "runner" and self.instance.count > 1:
            raise ValueError("deploy_via: runner releases on one host; several take ssm")
        return self


def find_root(start: Path | None = None) -> Path:
    """Return the project's root: DAYBOOK_ROOT, or the nearest parent that looks like one."""
    if configured := os.environ.get("DAYBOOK_ROOT"):
        return Path(configured).resolve()
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "environments").is_dir() and (folder / "terraform").is_dir():
            return folder
    raise SettingsError(
        "This is not a Daybook project.",
        expected="a folder that holds environments/ and terraform/, or one above it",
        observed=str(here),
        next="change into the project, or set DAYBOOK_ROOT",
    )


def environments(root: Path) -> list[str]:
    """Return the names of the environments that have settings."""
    return sorted(path.stem for path in (root / "environments").glob("*.yml"))


def load(root: Path, env: str) -> Settings:
    """Read and check an environment's settings; SettingsError lists each mistake and line."""
    path = root / "environments" / f"{env}.yml"
    known = environments(root)
    if env not in known:
        raise SettingsError(
            f"Unknown environment {env!r}.",
            expected=" or ".join(known) or "a file in environments/",
            next=nearest_hint(env, known)
            or f"choose one of these, or write environments/{env}.yml",
        )
    tree, lines = read(path)
    try:
        return Settings.model_validate(tree)
    except ValidationError as err:
        details = [_describe(path.name, lines, error) for error in err.errors()]
        raise SettingsError(
            f"The settings of {env} cannot be used.",
            details=details,
            next=f"mend environments/{path.name} and run the same command again",
        ) from err


def nearest_hint(wrong: str, known: list[str]) -> str | None:
    """Return "did you mean …?" for a mistyped name, or None."""
    near = difflib.get_close_matches(wrong, known, n=1)
    return f"did you mean {near[0]}?" if near else None


def read(path: Path) -> tuple[object, dict[tuple, int]]:
    """Return what a settings file says, and in which line: `{("instance", "type"): 12}`."""
    try:
        text = path.read_text(encoding="utf-8")
        return yaml.safe_load(text), _line_numbers(yaml.compose(text))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as err:
        mark = getattr(err, "problem_mark", None)
        where = f"environments/{path.name}" + (f":{mark.line + 1}" if mark else "")
        problem = getattr(err, "problem", None) or getattr(err, "strerror", None) or str(err)
        raise SettingsError(
            "The settings cannot be read.",
            details=[f"{where}: {problem}"],
            next=f"mend environments/{path.name} and run the same command again",
        ) from err


def _line_numbers(node: yaml.Node | None, at: tuple = ()) -> dict[tuple, int]:
    lines = {at: node.start_mark.line + 1} if node else {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if (*at, key.value) in lines:
                problem = f"{key.value} a second time"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            lines |= _line_numbers(value, (*at, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines |= _line_numbers(value, (*at, index))
    return lines


def _describe(file: str, lines: dict[tuple, int], error: dict) -> str:
    at = error["loc"]
    while at and at not in lines:
        at = at[:-1]
    where = ".".join(str(part) for part in error["loc"] if part != "[key]") or "the file"
    hint = (
        nearest_hint(str(error["loc"][-1]), list(Settings.model_fields))
        if _unknown(error)
        else None
    )
    problem = "no such setting" if _unknown(error) else error["msg"].removeprefix("Value error, ")
    return f"environments/{file}:{lines.get(at, 1)}: {where}: {problem}" + (
        f"; {hint}" if hint else ""
    )


def _unknown(error: dict) -> bool:
    return error["type"] == "extra_forbidden"
