"""Which commits may run: decided by what the account has noted, not by the checkout."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import boto3
import pytest
import yaml
from moto import mock_aws

from daybook import place, reviews
from daybook.errors import PreflightFailed
from daybook.settings import load
from daybook.target import Target

SETTINGS = {
    "app": "hello",
    "account": "sandbox",
    "zone": "daybook.test",
    "names": ["staging.daybook.test"],
    "cidr": "10.20.0.0/16",
    "operators": [],
}
REGION = {"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}


def git(root: Path, *args: str) -> None:
    who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.test")
    subprocess.run(["git", "-C", str(root), *who, *args], check=True, capture_output=True)


class Project:
    """A checkout of a reviewed repository, and the account that has noted it."""

    def __init__(self, folder: Path) -> None:
        self.root, bare = folder / "checkout", folder / "team.git"
        self.url = bare.as_uri()
        (self.root / "lib/daybook").mkdir(parents=True)
        (self.root / "lib/daybook/__init__.py").touch()
        self.write(git="pushed")
        git(folder, "init", "--bare", "--initial-branch", "main", str(bare))
        git(self.root, "init", "--initial-branch", "main")
        git(self.root, "remote", "add", "origin", self.url)
        self.commit()
        git(self.root, "push", "-u", "origin", "main")

    def write(self, env: str = "staging", **changes: object) -> None:
        file = self.root / f"environments/{env}.yml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(yaml.safe_dump(SETTINGS | changes))

    def commit(self) -> None:
        git(self.root, "add", "--all")
        git(self.root, "commit", "--allow-empty", "-m", "More")

    def note(self, value: object = None, **require_git: str) -> None:
        said = value or json.dumps({"remote": self.url, "require_git": require_git})
        boto3.client("ssm", region_name="us-east-1").put_parameter(
            Name="/hello/account/review", Value=said, Type="String", Overwrite=True
        )

    def review(self, *, is_account: bool = False, env: str = "staging") -> reviews.Review:
        chosen = load(self.root, env)
        target = Target("sandbox", "123456789012", "us-east-1", REGION)
        code = self.root / "lib/daybook"
        return reviews.Review(self.root, env, chosen, target, is_account, code)

    def check(self, *, override: str = "", **options):
        return place.is_reviewed(self.review(**options), override=override)("review")


@pytest.fixture
def project(tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        yield Project(tmp_path)


def test_a_reviewed_commit_passes(project):
    project.note(staging="pushed")
    check = project.check()
    assert check.is_ok, check
    assert check.observed.endswith("of main")


def test_nothing_is_looked_up_where_nothing_requires_it(project):
    project.write()
    project.note(staging="any", production="pushed")
    assert project.check().observed == "not required"


@pytest.mark.attack("F4", "settings of the checkout that ask for less review")
def test_the_checkout_cannot_ask_for_less_than_the_account(project):
    project.note(staging="pushed")
    project.write(git="any", git_remote="https://example.com/eve/hello.git")
    with pytest.raises(PreflightFailed, match="not those of the commit"):
        project.check()
    project.commit()
    check = project.check()
    assert not check.is_ok
    assert "not in the reviewed branch" in check.observed


@pytest.mark.attack("F4", "bootstrap by way of an environment that asks for less review")
def test_what_all_share_is_reviewed_where_one_environment_requires_it(project):
    project.write("loose")
    project.commit()
    project.note(loose="any", production="pushed")
    assert project.check(env="loose").is_ok
    assert not project.check(env="loose", is_account=True).is_ok


@pytest.mark.attack("F4", "an account without a note, or with a damaged one")
@pytest.mark.parametrize("value", [None, "{", "[]", "{}", '{"remote": 1}', "null"])
def test_without_a_note_nothing_passes_but_the_first_bootstrap(project, value):
    if value:
        project.note(value)
        with pytest.raises(PreflightFailed, match="damaged"):
            project.check()
        return
    check = project.check()
    assert (check.is_ok, "bootstrap" in check.fix) == (False, True)
    assert not project.check(is_account=True).is_ok, "the settings name no repository"
    project.write(git="pushed", git_remote=project.url)
    project.commit()
    git(project.root, "push")
    assert project.check(is_account=True).is_ok


@pytest.mark.attack("F4", "offline, or with a server that does not answer")
def test_offline_it_refuses_unless_a_reason_is_recorded(project, tmp_path):
    project.note(staging="pushed")
    (tmp_path / "team.git").rename(tmp_path / "gone.git")
    check = project.check()
    assert (check.is_ok, "--override-git REASON" in check.fix) == (False, True)
    assert not project.check(override="  ").is_ok
    check = project.check(override="GitHub is down")
    assert (check.is_ok, check.observed.endswith("overridden: GitHub is down")) == (True, True)


@pytest.mark.attack("F4", "files that no commit has, under an override")
def test_an_override_lets_no_file_differ_from_the_commit(project):
    project.note(staging="pushed")
    (project.root / "lib/daybook/more.py").touch()
    with pytest.raises(PreflightFailed, match="not those of the commit"):
        project.check(override="GitHub is down")


@pytest.mark.attack("F4", "Daybook of another folder than the reviewed one")
def test_the_code_that_runs_is_the_codes_that_was_reviewed(project, tmp_path):
    review = project.review()
    other = reviews.Review(project.root, "staging", review.settings, review.target, False, tmp_path)
    with pytest.raises(PreflightFailed, match="own code"):
        other.require_same_files()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ""),
        ({"github": {"repository": "o@1/hello@2"}}, "https://github.com/o/hello.git"),
        ({"git_remote": "ssh://git@git.example.com/a.git"}, "ssh://git@git.example.com/a.git"),
    ],
)
def test_the_reviewed_repository_of_the_settings(project, monkeypatch, changes, expected):
    project.write(**changes)
    chosen = load(project.root, "staging")
    environ = {"GITHUB_SERVER_URL": "http://127.0.0.1:9"}
    assert reviews.remote(chosen, Target("aws", "1", "us-east-1", environ)) == expected
