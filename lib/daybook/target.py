"""Where a run goes: AWS, or the sandbox. The difference is environment variables and no more."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from daybook import bounded_yaml
from daybook.errors import PreflightFailed, SettingsError
from daybook.settings import Settings

SANDBOX_ACCOUNT = "123456789012"
"""The account that the local AWS answers for."""
_NAME = re.compile(r"[A-Z][A-Z0-9_]*")


@dataclass(frozen=True)
class Target:
    """The account and region of a run, and the variables that lead every tool there.

    environ: the whole environment for tools, not only what differs.
    """

    name: str
    account: str
    region: str
    environ: Mapping[str, str]
    is_up: bool = True
    clients: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """AWS's clients by service, kept by aws.py: to make one takes longer than to ask it."""

    @property
    def is_sandbox(self) -> bool:
        """True when nothing real can be reached."""
        return self.name == "sandbox"

    def require_up(self) -> None:
        """Raise PreflightFailed where the target is a sandbox that is not up."""
        if not self.is_up:
            raise PreflightFailed(
                "The sandbox is not up.",
                expected="a sandbox that answers",
                observed="none",
                next="daybook sandbox up",
            )

    @property
    def title(self) -> str:
        """How every title and record names the target: `REHEARSAL`, or the account."""
        return "REHEARSAL" if self.is_sandbox else f"AWS {self.account}"


def resolve(
    settings: Settings, root: Path, *, rehearse: bool, environ: Mapping[str, str] = os.environ
) -> Target:
    """Choose the target of a run; a sandbox that is not up gives `is_up=False`."""
    tools = os.pathsep.join([str(Path(sys.executable).parent), environ.get("PATH", os.defpath)])
    environ = {**environ, "PATH": tools}
    if rehearse or settings.account == "sandbox":
        return _sandbox(settings, root, environ)
    region = {"AWS_REGION": settings.region, "AWS_DEFAULT_REGION": settings.region}
    account = {"AWS_ACCOUNT_ID": settings.account}
    return Target("aws", settings.account, settings.region, {**environ, **region, **account})


def ssh_key(settings: Settings, target: Target) -> Path:
    """Return the operator's private key; DAYBOOK_SSH_KEY wins over the settings."""
    key = target.environ.get("DAYBOOK_SSH_KEY") or settings.ssh_key
    return Path(os.path.expanduser(key))  # Path.expanduser raises where nobody's home is known.


def _sandbox(settings: Settings, root: Path, environ: Mapping[str, str]) -> Target:
    """Drop every AWS variable of the caller, so that a rehearsal cannot touch an account."""
    file = root / ".sandbox" / "target.env"
    variables = _read(file) if os.path.lexists(file) else {}
    clean = {name: value for name, value in environ.items() if not name.startswith("AWS_")}
    nowhere = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    account = {"AWS_ACCOUNT_ID": SANDBOX_ACCOUNT, "AWS_EC2_METADATA_DISABLED": "true"}
    region = variables.get("AWS_REGION", settings.region)
    return Target(
        "sandbox",
        SANDBOX_ACCOUNT,
        region,
        {**clean, **nowhere, **account, **variables},
        is_up=bool(variables),
    )


def _read(file: Path) -> dict[str, str]:
    try:
        text = bounded_yaml.read_text(file, follow=False)
        pairs = [line.split("=", 1) for line in text.splitlines() if "=" in line]
        if bounded_yaml.UNSEEN.search(text) or not all(_NAME.fullmatch(pair[0]) for pair in pairs):
            raise bounded_yaml.Problem("a line that is no NAME=value")
    except bounded_yaml.Problem as problem:
        raise SettingsError(
            f"The sandbox's {file.name} cannot be read.",
            expected=f"{file}, as daybook sandbox up writes it",
            observed=problem.problem,
            next="daybook sandbox down && daybook sandbox up",
        ) from None
    return dict(pairs)
