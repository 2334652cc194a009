"""An environment's settings, `environments/<env>.yml`, checked as a whole before a start."""

from __future__ import annotations

import difflib
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from daybook import bounded_yaml
from daybook.bounded_yaml import Key, Problem
from daybook.errors import SettingsError
from daybook.settings import types

NOTEBOOKS = ("notebooks", "runbooks")
"""Where the steps' notebooks are."""
NOBODY = "--"
"""No owner on GitHub has it in his name: such a repository is for rehearsals alone."""
RENAMED = {
    "names": "domains",
    "zone": "dns_zone",
    "cidr": "vpc_cidr",
    "operators": "ssh_allowed_cidrs",
    "protected": "deletion_protection",
    "git": "require_git",
}
"""Keys by their old names, which this release still reads."""
_WARNED: set[str] = set()
"""The environments whose old names were reported in this process."""
MAX_PROBLEMS = 20
"""So many are listed; more are counted."""


class _Conflict(ValueError):
    """Settings that contradict each other: each key with what is wrong with it."""

    def __init__(self, problems: dict[Key, str]) -> None:
        super().__init__("; ".join(problems.values()))
        self.problems = problems


class _Model(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True
    )


class Instance(_Model):
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
    """The repositories whose workflows get a role in the account and release here."""

    repository: types.Repository = ""
    """Repository of the infrastructure, `owner/name` or `owner@id/name@id`; the same in every
    environment of the account. Jobs in one of its environments may run Daybook."""
    application: types.Repository = ""
    """Repository of the application, if it has its own; the same in every environment."""
    branch: types.Branch = "main"
    """Branch of the application that may push images and is released here."""
    labels: tuple[types.Label, ...] = Field(default=(), max_length=types.MAX_LABELS)
    """Labels of the runner on the host. Empty: the environment's name."""

    @property
    def releases(self) -> str:
        """Return the repository whose pushes are released, as GitHub's tokens name it."""
        return self.application or self.repository

    @property
    def path(self) -> str:
        """Return that repository as its address has it: `owner/name`."""
        return re.sub(r"@[0-9]+", "", self.releases)

    @property
    def own_path(self) -> str:
        """Return the infrastructure's own repository as its address has it: `owner/name`."""
        return re.sub(r"@[0-9]+", "", self.repository)


class Freeze(_Model):
    """A window in which nothing is changed."""

    since: types.Moment
    """Start, with its UTC offset: 2026-12-20T00:00:00Z."""
    until: types.Moment
    """End, with its UTC offset."""
    reason: types.Reason
    """Reason, shown to whoever tries to change something."""

    @model_validator(mode="after")
    def _has_a_length(self) -> Freeze:
        if self.until <= self.since:
            after = self.since.isoformat()
            raise _Conflict({("until",): f"expected a moment after {after}, its `since`"})
        return self


class Settings(_Model):
    """The settings of one environment. environments/example.yml is generated from this model."""

    app: Annotated[types.AppName, Field(examples=["hello"])]
    """Short name of the application, 2 to 25 characters; every name in AWS begins with it."""
    account: Annotated[types.Account, Field(examples=["sandbox"])]
    """Target: `sandbox`, or a 12-digit AWS account id in quotes."""
    region: types.Region = "us-east-1"
    """AWS region."""
    dns_zone: Annotated[types.DnsName, Field(examples=["example.com"])]
    """DNS zone in Route53, which bootstrap creates."""
    domains: Annotated[types.Names, Field(examples=[["staging.example.com"]])]
    """DNS names of the application, 1 to 20, all in the zone; the first one is its URL."""
    vpc_cidr: Annotated[types.Cidr, Field(examples=["10.20.0.0/16"])]
    """Private network of the VPC, /16 to /20; each environment has its own."""
    ssh_allowed_cidrs: Annotated[types.Operators, Field(examples=[["203.0.113.7/32"]])]
    """IPv4 ranges that may use SSH, at most 58. In the sandbox, 203.0.113.7/32 is you."""
    instance: Instance = Instance()
    """The environment's EC2 instances."""
    ssh_key: types.KeyFile = Path("~/.ssh/id_ed25519")
    """Your private SSH key, with its public half beside it. DAYBOOK_SSH_KEY overrides it."""
    port: types.Port = 8000
    """Loopback port of the application on the host; releases alternate between it and the next."""
    secrets: dict[types.SecretName, types.Purpose] = Field(
        default={},
        max_length=types.MAX_SECRETS,
        examples=[{"DATABASE_URL": "connection to the database"}],
    )
    """Secrets of the application, at most 100: each name, and what it is for. Set their values
    with `daybook secrets set`."""
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
    """Windows in which nothing is changed, at most 50."""
    deletion_protection: bool = False
    """Protect instances from termination through the API; teardown then needs `allow_teardown`."""
    allow_teardown: bool = False
    """Allow the teardown of a protected environment. Commit it for the teardown, then revert it."""
    snapshot_days: Annotated[int, types.whole(0, 365)] = 0
    """How long a daily snapshot of each disk is kept, in days, 0 to 365; 0 for none."""
    alarm_email: types.Email = ""
    """E-mail address for alarms about the hosts; empty for none."""
    flow_log_days: types.LogDays = 0
    """How long the VPC's flow logs are kept, in days; 0 for none."""
    github: GitHub = GitHub()
    """The repositories whose workflows get a role in the account and release here."""
    deploy_via: Literal["runner", "ssm", "none"] = "none"
    """How a push is released: by a runner on the host, by Systems Manager, or not at all."""

    @model_validator(mode="after")
    def _agree(self) -> Settings:
        if problems := dict(self._conflicts()):
            raise _Conflict(problems)
        return self

    def _conflicts(self) -> Iterator[tuple[Key, str]]:
        """Give each key that does not fit another, and why."""
        for index, name in enumerate(self.domains):
            if name != self.dns_zone and not name.endswith(f".{self.dns_zone}"):
                fits = f"expected {self.dns_zone} or a name that ends with .{self.dns_zone}"
                yield ("domains", index), f"{fits}, got {types.shown(name)}"
        if self.deploy_via != "none" and not self.github.repository:
            yield ("deploy_via",), f"{self.deploy_via} needs github.repository; otherwise none"
        if self.deploy_via == "runner" and self.instance.count > 1:
            yield ("deploy_via",), "runner releases on one host; for several choose ssm or none"
        for key in ("repository", "application"):
            if self.account != "sandbox" and NOBODY in getattr(self.github, key):
                fix = "expected a repository of yours, or no github and deploy_via: none"
                yield ("github", key), f"{fix}; this one is for rehearsals alone"
        if self.account != "sandbox" and self.approvals and self.require_git != "pushed":
            fix = "on an account it needs require_git: pushed, or an edited checkout could lower it"
            yield ("approvals",), f"{self.approvals}: {fix}"


def find_root(start: Path | None = None) -> Path:
    """Return the project's root: DAYBOOK_ROOT, or the nearest parent that looks like one."""
    try:
        here = Path(os.path.realpath(start or Path.cwd()))
    except OSError as err:
        raise SettingsError(
            "The current folder does not exist any more.",
            expected="a folder to work in",
            observed="a folder that was deleted",
            next="change into the project",
        ) from err
    if configured := os.environ.get("DAYBOOK_ROOT"):
        root = Path(os.path.realpath(configured))
        if os.path.isdir(root):
            return root
        raise SettingsError(
            "DAYBOOK_ROOT is no folder.",
            expected="the folder that holds environments/ and terraform/",
            observed=types.shown(configured),
            next="correct DAYBOOK_ROOT, or unset it in the project's folder",
        )
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
    names = {path.stem for path in (root / "environments").glob("*.yml")}
    return sorted(names - {types.EXAMPLE})


def others(root: Path, env: str) -> tuple[list[tuple[str, Settings]], list[str]]:
    """Return the other environments, and the names of those whose settings cannot be used."""
    found, unread = [], []
    for name in environments(root):
        try:
            found += [(name, load(root, name))] if name != env else []
        except SettingsError:
            unread.append(name)
    return found, unread


def of_account(root: Path, env: str, chosen: Settings) -> dict[str, Settings]:
    """Return the application's environments in the account of this one, itself included."""
    found, _ = others(root, env)
    shared = (chosen.app, chosen.account)
    known = {name: each for name, each in found if (each.app, each.account) == shared}
    return dict(sorted({env: chosen, **known}.items()))


def load(root: Path, env: str) -> Settings:
    """Read and check an environment's settings; SettingsError lists each mistake and line."""
    return parse(read(root, env), env)


def read(root: Path, env: str) -> str:
    """Return the text of an environment's settings, which are a file of `environments/`."""
    try:
        # A link would lead out of what was reviewed.
        return bounded_yaml.read_text(_path(root, env), follow=False)
    except Problem as problem:
        raise _unusable(env, [_at(env, problem.line, problem.key, problem.problem)]) from None


def parse(text: str, env: str) -> Settings:
    """Check the text of an environment's settings; SettingsError lists each mistake and line."""
    document = _document(text, env)
    _rename_keys(document, env)
    try:
        # As JSON, because its strict mode takes text for an address and a list for a tuple.
        return Settings.model_validate_json(json.dumps(document.tree), strict=True)
    except ValidationError as err:
        details = [
            _at(env, _line_of(key, document.lines), key, problem)
            for error in err.errors(include_url=False)
            for key, problem in _problems(error)
        ]
    raise _unusable(env, details)


def _rename_keys(document: bounded_yaml.Document, env: str) -> None:
    """Replace the old names of keys by their new ones, with one warning per process."""
    old = [key for key in RENAMED if key in document.tree]
    both = [key for key in old if RENAMED[key] in document.tree]
    if both:
        problems = [
            _at(env, document.lines[key,], (key,), f"set twice: it is now called {RENAMED[key]}")
            for key in both
        ]
        raise _unusable(env, problems)
    for key in old:
        document.tree[RENAMED[key]] = document.tree.pop(key)
    for at in [at for at in document.lines if at and at[0] in old]:
        document.lines[RENAMED[at[0]], *at[1:]] = document.lines.pop(at)
    if old and env not in _WARNED and "DAYBOOK_RUN_ID" not in os.environ:
        _WARNED.add(env)
        names = ", ".join(f"{key} is now {RENAMED[key]}" for key in old)
        print(
            f"environments/{env}.yml: {names}. The next release will not read the old names.",
            file=sys.stderr,
        )


def lines(root: Path, env: str) -> dict[Key, int]:
    """Return the line of each setting that the file has: `{("instance", "type"): 12}`."""
    document = _document(read(root, env), env)
    _rename_keys(document, env)
    return document.lines


def nearest_hint(wrong: str, known: list[str]) -> str | None:
    """Return "did you mean …?" for a mistyped name, or None."""
    near = difflib.get_close_matches(wrong[:100], known, n=1)
    return f"did you mean {near[0]}?" if near else None


def _path(root: Path, env: str) -> Path:
    """Return the file of an environment that exists."""
    known = environments(root)
    if env not in known:
        raise SettingsError(
            f"Unknown environment {types.shown(env)}.",
            expected=" or ".join(known[:10]) or "a file in environments/",
            next=nearest_hint(env, known) or "choose one of these, or: daybook env new NAME",
        )
    require_name(env)
    return root / "environments" / f"{env}.yml"


def require_name(env: str) -> None:
    """Raise SettingsError when an environment cannot be called so."""
    is_reserved = env in types.RESERVED_ENVIRONMENTS
    if is_reserved or not re.fullmatch(types.ENVIRONMENT, env):
        raise SettingsError(
            f"{types.shown(env)} cannot be an environment's name.",
            expected="2 to 20 lower-case letters and digits, a letter first, such as demo",
            observed=f"{env} is reserved by Daybook or its tools" if is_reserved else None,
            next="choose another name",
        )


def _document(text: str, env: str) -> bounded_yaml.Document:
    try:
        document = bounded_yaml.parse(text)
        if not isinstance(document.tree, dict):
            raise Problem("expected settings, `key: value` each")
    except Problem as problem:
        raise _unusable(env, [_at(env, problem.line, problem.key, problem.problem)]) from None
    return document


def _unusable(env: str, details: list[str]) -> SettingsError:
    more = len(details) - MAX_PROBLEMS
    return SettingsError(
        f"The settings of {env} cannot be used.",
        details=details[:MAX_PROBLEMS] + ([f"and {more} more"] if more > 0 else []),
        next=f"correct environments/{env}.yml and run the same command again",
    )


def _problems(error: dict) -> Iterator[tuple[Key, str]]:
    """Give what an error of pydantic's means for the operator, by key."""
    key = tuple(part for part in error["loc"] if part != "[key]")
    conflict = error.get("ctx", {}).get("error")
    if isinstance(conflict, _Conflict):
        yield from ((key + inner, text) for inner, text in conflict.problems.items())
    else:
        yield key, _text(error, key)


def _text(error: dict, key: Key) -> str:
    """Return what was expected and what was there; a secret's place is never quoted."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "missing":
        return f"required, but not set: {_model(key).model_fields[key[-1]].description}"
    if kind == "extra_forbidden":
        known = list(_model(key).model_fields)
        hint = nearest_hint(str(key[-1]), known) or f"expected {', '.join(known)}"
        return f"no such setting; {hint}"
    show = types.kind_of if key[0] == "secrets" else types.shown
    value = show(error["input"])
    expected = _EXPECTED.get(kind, "").format(**context) or error["msg"]
    if kind == "too_long":
        return f"expected {expected}, got {context['actual_length']}"
    is_number = isinstance(error["input"], int | float)
    in_quotes = "; write it in quotes" if kind == "string_type" and is_number else ""
    return f"expected {expected}, got {value}{in_quotes}"


_EXPECTED = {
    "string_type": "text",
    "bool_type": "true or false",
    "literal_error": "{expected}",
    "model_type": "settings below this one, `key: value` each",
    "dict_type": "`NAME: what it is for` lines",
    "tuple_type": "a list",
    "too_long": "at most {max_length}",
}


def _model(key: Key) -> type[BaseModel]:
    """Return the model that a key is a field of."""
    inner = {"instance": Instance, "github": GitHub, "freezes": Freeze}
    return inner.get(key[0], Settings) if len(key) > 1 else Settings


def _line_of(key: Key, lines: dict[Key, int]) -> int:
    """Return the line of a key, or of the nearest one around it that is in the file."""
    while key and key not in lines:
        key = key[:-1]
    return lines.get(key, 1)


def _at(env: str, line: int, key: Key, problem: str) -> str:
    parts = [str(part) if re.fullmatch(_PLAIN, str(part)) else "…" for part in key]
    where = ".".join(parts) or "the file"
    return f"environments/{env}.yml:{line}: {where}: {problem}"


_PLAIN = r"[A-Za-z0-9_.-]{1,64}"
"""What of a file an error names a key with; anything else is hostile, or misplaced."""
