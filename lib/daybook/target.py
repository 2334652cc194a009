"""The target of a run: AWS or the sandbox. They differ in environment variables only."""

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
"""The account of the sandbox's AWS."""
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")
PASSED = frozenset(
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
"""Variables of the operator that tools get: how to reach servers, not which action to take."""
PASSED_PREFIXES = ("LC_", "TF_TOKEN_")
PASSED_AWS = frozenset(
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
"""AWS variables of the operator that tools get for an account: credentials, never endpoints."""
_NAME = re.compile(r"[A-Z][A-Z0-9_]*")


@dataclass(frozen=True)
class Target:
    """The account and region of a run, and the environment variables that point every tool there.

    environ: the complete environment of tools. It excludes each variable of the operator that
    could change the effect of a tool.
    """

    name: str
    account: str
    region: str
    environ: Mapping[str, str]
    is_up: bool = True
    clients: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """boto3 clients by service, cached by `aws.client`: creating one takes longer than a call."""

    @property
    def is_sandbox(self) -> bool:
        """True if the target is the sandbox instead of an AWS account."""
        return self.name == "sandbox"

    def require_up(self) -> None:
        """Raise PreflightFailed if the target is a sandbox that is not running."""
        if not self.is_up:
            raise PreflightFailed(
                "The sandbox is not running.",
                expected="a running sandbox",
                observed="no running sandbox",
                next="daybook sandbox up",
            )

    @property
    def title(self) -> str:
        """Return the target's name in every title and record: `REHEARSAL`, or the account."""
        return "REHEARSAL" if self.is_sandbox else f"AWS {self.account}"


def resolve(
    settings: Settings, root: Path, *, rehearse: bool, environ: Mapping[str, str] = os.environ
) -> Target:
    """Return the target of a run; `is_up` is False for a sandbox that is not running."""
    tools = os.pathsep.join([str(Path(sys.executable).parent), environ.get("PATH", os.defpath)])
    passed = {name: value for name, value in environ.items() if _is_passed(name)} | {"PATH": tools}
    if rehearse or settings.account == "sandbox":
        own = {name: value for name, value in environ.items() if name.startswith("DAYBOOK_")}
        return _sandbox(settings, root, passed | own)
    credentials = {name: value for name, value in environ.items() if name in PASSED_AWS}
    account = {
        "AWS_REGION": settings.region,
        "AWS_DEFAULT_REGION": settings.region,
        "AWS_ACCOUNT_ID": settings.account,
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
    }
    return Target("aws", settings.account, settings.region, passed | credentials | account)


def ssh_key(settings: Settings, target: Target) -> Path:
    """Return the operator's private key; DAYBOOK_SSH_KEY overrides the settings."""
    key = target.environ.get("DAYBOOK_SSH_KEY") or settings.ssh_key
    return Path(os.path.expanduser(key))  # Path.expanduser raises if the home folder is unknown.


def _is_passed(name: str) -> bool:
    return name in PASSED or name.startswith(PASSED_PREFIXES)


def _sandbox(settings: Settings, root: Path, environ: Mapping[str, str]) -> Target:
    """Return the sandbox as the target; `environ` contains no AWS variable of the operator."""
    file = root / ".sandbox" / "target.env"
    variables = _read(file) if os.path.lexists(file) else {}
    no_config = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    account = {"AWS_ACCOUNT_ID": SANDBOX_ACCOUNT, "AWS_EC2_METADATA_DISABLED": "true"}
    region = variables.get("AWS_REGION", settings.region)
    return Target(
        "sandbox",
        SANDBOX_ACCOUNT,
        region,
        {**environ, **no_config, **account, **variables},
        is_up=bool(variables),
    )


def _read(file: Path) -> dict[str, str]:
    try:
        text = bounded_yaml.read_text(file, follow=False)
        pairs = [line.split("=", 1) for line in text.splitlines() if "=" in line]
        if bounded_yaml.UNSEEN.search(text) or not all(_NAME.fullmatch(pair[0]) for pair in pairs):
            raise bounded_yaml.Problem("a line other than NAME=value")
    except bounded_yaml.Problem as problem:
        raise SettingsError(
            f"The sandbox's {file.name} is invalid.",
            expected=f"{file} as written by daybook sandbox up",
            observed=problem.problem,
            next="daybook sandbox down && daybook sandbox up",
        ) from None
    return dict(pairs)
