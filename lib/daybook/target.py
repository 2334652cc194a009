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
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")
KEPT = frozenset(
    (
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR"),
        *("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "SSH_AUTH_SOCK", "DAYBOOK_SSH_KEY"),
        *_PROXIES,
        *(name.lower() for name in _PROXIES),
        *("SSL_CERT_FILE", "SSL_CERT_DIR"),
        # A Mac builds for the hosts' processor with DOCKER_DEFAULT_PLATFORM.
        *("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_CERT_PATH"),
        *("DOCKER_TLS_VERIFY", "DOCKER_API_VERSION", "DOCKER_DEFAULT_PLATFORM", "BUILDX_BUILDER"),
        *("TF_CLI_CONFIG_FILE", "TF_PLUGIN_CACHE_DIR", "TF_REGISTRY_CLIENT_TIMEOUT"),
        *("TF_REGISTRY_DISCOVERY_RETRY", "TF_PROVIDER_DOWNLOAD_RETRY"),
    )
)
"""What tools get of the operator's environment: how they reach servers, not what they do there."""
KEPT_PREFIXES = ("LC_", "TF_TOKEN_")
KEPT_OF_AWS = frozenset(
    f"AWS_{name}"
    for name in (
        *("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "PROFILE", "DEFAULT_PROFILE"),
        *("CONFIG_FILE", "SHARED_CREDENTIALS_FILE", "SDK_LOAD_CONFIG", "LOGIN_CACHE_DIRECTORY"),
        *("ROLE_ARN", "ROLE_SESSION_NAME", "WEB_IDENTITY_TOKEN_FILE", "EC2_METADATA_DISABLED"),
        *("CONTAINER_CREDENTIALS_RELATIVE_URI", "CONTAINER_CREDENTIALS_FULL_URI"),
        *("CONTAINER_AUTHORIZATION_TOKEN", "CONTAINER_AUTHORIZATION_TOKEN_FILE"),
        *("CA_BUNDLE", "USE_FIPS_ENDPOINT", "USE_DUALSTACK_ENDPOINT", "STS_REGIONAL_ENDPOINTS"),
        *("RETRY_MODE", "MAX_ATTEMPTS"),
    )
)
"""What tools get of the operator's AWS, in an account: who calls, never where AWS is."""
_NAME = re.compile(r"[A-Z][A-Z0-9_]*")


@dataclass(frozen=True)
class Target:
    """The account and region of a run, and the variables that lead every tool there.

    environ: the whole environment for tools, not only what differs. No variable of the operator's
    is in it that could change what a tool does.
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
    kept = {name: value for name, value in environ.items() if _is_kept(name)} | {"PATH": tools}
    if rehearse or settings.account == "sandbox":
        own = {name: value for name, value in environ.items() if name.startswith("DAYBOOK_")}
        return _sandbox(settings, root, kept | own)
    who = {name: value for name, value in environ.items() if name in KEPT_OF_AWS}
    where = {
        "AWS_REGION": settings.region,
        "AWS_DEFAULT_REGION": settings.region,
        "AWS_ACCOUNT_ID": settings.account,
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
    }
    return Target("aws", settings.account, settings.region, kept | who | where)


def ssh_key(settings: Settings, target: Target) -> Path:
    """Return the operator's private key; DAYBOOK_SSH_KEY wins over the settings."""
    key = target.environ.get("DAYBOOK_SSH_KEY") or settings.ssh_key
    return Path(os.path.expanduser(key))  # Path.expanduser raises where nobody's home is known.


def _is_kept(name: str) -> bool:
    return name in KEPT or name.startswith(KEPT_PREFIXES)


def _sandbox(settings: Settings, root: Path, environ: Mapping[str, str]) -> Target:
    """Lead every tool to the sandbox; environ has no AWS variable of the caller's."""
    file = root / ".sandbox" / "target.env"
    variables = _read(file) if os.path.lexists(file) else {}
    nowhere = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    account = {"AWS_ACCOUNT_ID": SANDBOX_ACCOUNT, "AWS_EC2_METADATA_DISABLED": "true"}
    region = variables.get("AWS_REGION", settings.region)
    return Target(
        "sandbox",
        SANDBOX_ACCOUNT,
        region,
        {**environ, **nowhere, **account, **variables},
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
