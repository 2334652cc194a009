"""The application's workflow and its scripts, put into the application's own repository."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from daybook import settings
from daybook.errors import SettingsError
from daybook.settings import Settings
from daybook.target import Target

WHERE = Path("ci/deploy.json")
PARTITIONS = {"cn-": "aws-cn", "us-gov-": "aws-us-gov", "": "aws"}
"""https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html, by how a region begins."""
FILES = (
    Path(".github/workflows/deploy.yml"),
    *(Path("ci") / name for name in ("settings", "test", "build", "release-by-ssm")),
)
"""What app/ has of it, beside WHERE, which is made from the settings."""


def where(root: Path, target: Target, chosen: Settings) -> dict[str, object]:
    """Return what ci/deploy.json says: where each branch of the application goes to.

    All environments of the application and the account are in it; none of it is secret.
    """
    starts = (each for each in PARTITIONS if target.region.startswith(each))
    partition = PARTITIONS[next(starts)]
    roles = f"arn:{partition}:iam::{target.account}:role"
    registry = f"{target.account}.dkr.ecr.{target.region}.amazonaws.com"
    branches: dict[str, dict[str, str]] = {}
    for env, theirs in _environments(root, chosen).items():
        branch, name = theirs.github.branch, f"{chosen.app}-{env}-release"
        if other := branches.get(branch):
            raise SettingsError(
                f"{env} and {other['environment']} both release {branch}.",
                next=f"give one of them another github.branch in environments/{env}.yml",
            )
        said = {"environment": env, "url": f"https://{theirs.names[0]}/", "via": theirs.deploy_via}
        ssm = {"document": name, "release_role": f"{roles}/{name}"}
        branches[branch] = said | (ssm if theirs.deploy_via == "ssm" else {})
    return {
        "region": target.region,
        "repository": f"{registry}/{chosen.app}",
        "push_role": f"{roles}/{chosen.app}-github-push",
        "branches": dict(sorted(branches.items())),
    }


def write(root: Path, target: Target, chosen: Settings, folder: Path | str) -> Iterator[str]:
    """Write what is not there yet into a repository; yields a line a file."""
    folder = Path(folder)
    for file in FILES:
        source, there = root / "app" / file, folder / file
        if there.exists():
            is_same = there.read_bytes() == source.read_bytes()
            yield f"{'is there' if is_same else 'differs, and stays'}: {file}"
            continue
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, there)
        yield f"written: {file}"
    text = json.dumps(where(root, target, chosen), indent=2) + "\n"
    (folder / WHERE).write_text(text, encoding="utf-8")
    yield f"written: {WHERE}"


def missing(folder: Path) -> list[Path]:
    """Return the files that a repository has not."""
    return [file for file in (*FILES, WHERE) if not (folder / file).exists()]


def _environments(root: Path, chosen: Settings) -> dict[str, Settings]:
    """Return the settings of all environments of this application in this account."""
    found = {env: settings.load(root, env) for env in settings.environments(root)}
    same = (chosen.app, chosen.account)
    return {env: each for env, each in found.items() if (each.app, each.account) == same}
