"""Install the deployment workflow and its scripts in the application's own repository."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from daybook import aws
from daybook.environment import Environment
from daybook.errors import SettingsError

CI_SETTINGS = Path("ci/deploy.json")
PARTITIONS = {"cn-": "aws-cn", "us-gov-": "aws-us-gov", "": "aws"}
"""AWS partitions by prefix of the region:
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html"""
FILES = (
    Path(".github/workflows/deploy.yml"),
    *(Path("ci") / name for name in ("settings", "test", "build", "release-by-ssm")),
)
"""Files copied from app/; CI_SETTINGS is generated from the settings."""


def ci_settings(environment: Environment) -> dict[str, object]:
    """Return the content of ci/deploy.json: the release target of each branch.

    It covers all environments of the application in the account, and contains no secrets.
    """
    target, app = environment.target, environment.settings.app
    prefix = next(prefix for prefix in PARTITIONS if target.region.startswith(prefix))
    partition = PARTITIONS[prefix]
    roles = f"arn:{partition}:iam::{target.account}:role"
    registry = aws.registry(target)
    branches: dict[str, dict[str, str]] = {}
    for env, settings in environment.of_account.items():
        branch, name = settings.github.branch, f"{app}-{env}-release"
        if conflict := branches.get(branch):
            raise SettingsError(
                f"{env} and {conflict['environment']} both release branch {branch}.",
                next=f"set a different github.branch in environments/{env}.yml",
            )
        branches[branch] = {
            "environment": env,
            "url": f"https://{settings.domains[0]}/",
            "via": settings.deploy_via,
        }
        if settings.deploy_via == "ssm":
            branches[branch] |= {"document": name, "release_role": f"{roles}/{name}"}
    return {
        "region": target.region,
        "repository": f"{registry}/{app}",
        "push_role": f"{roles}/{app}-github-push",
        "branches": dict(sorted(branches.items())),
    }


def write(environment: Environment, folder: Path | str) -> Iterator[str]:
    """Write the missing files into a repository; yields one line per file."""
    folder = Path(folder)
    for file in FILES:
        source, copy = environment.root / "app" / file, folder / file
        if copy.exists():
            is_same = copy.read_bytes() == source.read_bytes()
            yield f"{'unchanged' if is_same else 'differs, not overwritten'}: {file}"
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, copy)
        yield f"written: {file}"
    text = json.dumps(ci_settings(environment), indent=2) + "\n"
    (folder / CI_SETTINGS).write_text(text, encoding="utf-8")
    yield f"written: {CI_SETTINGS}"


def missing(folder: Path) -> list[Path]:
    """Return the files that are missing in a repository."""
    return [file for file in (*FILES, CI_SETTINGS) if not (folder / file).exists()]
