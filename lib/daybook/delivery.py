"""The application's workflow and its scripts, put into the application's own repository."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from daybook import aws
from daybook.environment import Environment
from daybook.errors import SettingsError

WHERE = Path("ci/deploy.json")
PARTITIONS = {"cn-": "aws-cn", "us-gov-": "aws-us-gov", "": "aws"}
"""https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html, by how a region begins."""
FILES = (
    Path(".github/workflows/deploy.yml"),
    *(Path("ci") / name for name in ("settings", "test", "build", "release-by-ssm")),
)
"""What app/ has of it, beside WHERE, which is made from the settings."""


def where(environment: Environment) -> dict[str, object]:
    """Return what ci/deploy.json says: where each branch of the application goes to.

    All environments of the application and the account are in it; none of it is secret.
    """
    target, app = environment.target, environment.settings.app
    starts = (each for each in PARTITIONS if target.region.startswith(each))
    partition = PARTITIONS[next(starts)]
    roles = f"arn:{partition}:iam::{target.account}:role"
    registry = aws.registry(target)
    branches: dict[str, dict[str, str]] = {}
    for env, theirs in environment.of_account.items():
        branch, name = theirs.github.branch, f"{app}-{env}-release"
        if other := branches.get(branch):
            raise SettingsError(
                f"{env} and {other['environment']} both release {branch}.",
                next=f"give one of them another github.branch in environments/{env}.yml",
            )
        said = {
            "environment": env,
            "url": f"https://{theirs.domains[0]}/",
            "via": theirs.deploy_via,
        }
        ssm = {"document": name, "release_role": f"{roles}/{name}"}
        branches[branch] = said | (ssm if theirs.deploy_via == "ssm" else {})
    return {
        "region": target.region,
        "repository": f"{registry}/{app}",
        "push_role": f"{roles}/{app}-github-push",
        "branches": dict(sorted(branches.items())),
    }


def write(environment: Environment, folder: Path | str) -> Iterator[str]:
    """Write what is not there yet into a repository; yields a line a file."""
    folder = Path(folder)
    for file in FILES:
        source, there = environment.root / "app" / file, folder / file
        if there.exists():
            is_same = there.read_bytes() == source.read_bytes()
            yield f"{'is there' if is_same else 'differs, and stays'}: {file}"
            continue
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, there)
        yield f"written: {file}"
    text = json.dumps(where(environment), indent=2) + "\n"
    (folder / WHERE).write_text(text, encoding="utf-8")
    yield f"written: {WHERE}"


def missing(folder: Path) -> list[Path]:
    """Return the files that a repository has not."""
    return [file for file in (*FILES, WHERE) if not (folder / file).exists()]
