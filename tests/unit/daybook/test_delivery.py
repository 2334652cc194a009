"""The files for the application's own repository, and their use by its scripts."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from daybook import delivery, settings
from daybook.environment import Environment
from daybook.errors import SettingsError
from daybook.target import Target

ROOT = Path(__file__).resolve().parents[3]
TARGET = Target("aws", "123456789012", "eu-central-1", {})
GITHUB = {"repository": "octo-org/hello"}


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "project"
    shutil.copytree(ROOT / "app", root / "app")
    shutil.copytree(ROOT / "environments", root / "environments")
    change(root, "staging", github={**GITHUB, "branch": "staging"}, deploy_via="runner")
    change(root, "production", github=GITHUB, deploy_via="ssm")
    return root


def change(root: Path, env: str, **given: object) -> None:
    path = root / "environments" / f"{env}.yml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | given))


def environment(root: Path) -> Environment:
    return Environment("staging", root, settings.load(root, "staging"), TARGET)


def where(root: Path) -> dict:
    return delivery.ci_settings(environment(root))


def test_each_branch_is_released_to_its_environment(root):
    role = "arn:aws:iam::123456789012:role/hello"
    assert where(root) == {
        "region": "eu-central-1",
        "repository": "123456789012.dkr.ecr.eu-central-1.amazonaws.com/hello",
        "push_role": f"{role}-github-push",
        "branches": {
            "main": {
                "environment": "production",
                "url": "https://daybook.test/",
                "via": "ssm",
                "document": "hello-production-release",
                "release_role": f"{role}-production-release",
            },
            "staging": {
                "environment": "staging",
                "url": "https://staging.daybook.test/",
                "via": "runner",
            },
        },
    }


def test_two_environments_cannot_release_one_branch(root):
    change(root, "staging", github=GITHUB)
    with pytest.raises(SettingsError, match="both release branch main"):
        where(root)


def test_write_adds_missing_files_and_keeps_different_ones(root, tmp_path):
    repository = tmp_path / "repository"
    (repository / "ci").mkdir(parents=True)
    (repository / "ci/test").write_text("#!/bin/sh\nmake check\n")
    said = list(delivery.write(environment(root), repository))
    assert "differs, not overwritten: ci/test" in said
    assert (repository / "ci/test").read_text() == "#!/bin/sh\nmake check\n"
    assert "written: .github/workflows/deploy.yml" in said
    assert os.access(repository / "ci/build", os.X_OK)
    assert json.loads((repository / "ci/deploy.json").read_text()) == where(root)
    assert delivery.missing(repository) == []
    again = list(delivery.write(environment(root), repository))
    assert [line for line in again if line.startswith("written")] == ["written: ci/deploy.json"]


def test_the_scripts_read_the_settings(root, tmp_path):
    for _ in delivery.write(environment(root), tmp_path):
        pass
    outputs = tmp_path / "outputs"
    env = {**os.environ, "GITHUB_OUTPUT": str(outputs), "GITHUB_REF_NAME": "main"}
    subprocess.run([tmp_path / "ci/settings"], env=env, check=True, capture_output=True)
    said = dict(line.split("=", 1) for line in outputs.read_text().splitlines())
    assert (said["environment"], said["moving_tag"], said["via"]) == ("production", "latest", "ssm")
    staging = subprocess.check_output([tmp_path / "ci/settings", "staging"], text=True)
    assert "moving_tag=staging-latest\n" in staging
    other = subprocess.run([tmp_path / "ci/settings", "topic"], capture_output=True, text=True)
    assert other.returncode != 0
    assert "not topic" in other.stderr


def test_the_workflow_uses_only_outputs_of_the_scripts(root):
    workflow = yaml.safe_load((ROOT / "app/.github/workflows/deploy.yml").read_text())
    text = json.dumps(workflow["jobs"])
    asked = set(re.findall(r"steps\.settings\.outputs\.(\w+)", text))
    every = where(root)
    known = {"moving_tag", *every} | {key for each in every["branches"].values() for key in each}
    assert asked <= known
    assert workflow["permissions"] == {}
    assert workflow["concurrency"]["cancel-in-progress"] is False
    shipped = json.loads((ROOT / "app/ci/deploy.json").read_text())
    assert set(workflow[True]["push"]["branches"]) == set(shipped["branches"])
